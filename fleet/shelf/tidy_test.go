package shelf

import (
	"crypto/rand"
	"testing"
	"time"

	"aead.dev/minisign"
	"github.com/google/go-cmp/cmp"

	"culprit/fleet"
	"culprit/fleet/sets"
	"culprit/internal/config"
	"culprit/internal/testkit/natsserver"
)

// Hunts that ended long ago leave their places, and nothing in them; all else stays.
func TestTidy(t *testing.T) {
	t.Parallel()
	c, err := fleet.Connect(t.Context(), config.Fleet{Servers: []string{natsserver.Start(t, "").URL}, Name: "culprit"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Setup(t.Context(), fleet.Plan{Replicas: 1, MaxBytes: 1 << 30}); err != nil {
		t.Fatal(err)
	}
	_, key, err := minisign.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	const old, running, endless, published = "hunt-01m8d7msnacee7", "hunt-01m8d7msnacee8", "hunt-01m8d7msnacee9", "zones"
	now := time.Now().UTC().Truncate(time.Second)
	for name, lasts := range map[string]time.Duration{old: time.Hour, running: 60 * 24 * time.Hour, endless: 0, published: time.Hour} {
		s := &sets.Set{Format: sets.Format, Fleet: "culprit", Name: name, Version: 1, Created: now}
		if lasts > 0 {
			s.Expires = now.Add(lasts)
		}
		rule := config.Rule{Name: name, String: "BADZONE"}
		if _, err := s.Build([]config.Rule{rule.Filled()}, nil); err != nil {
			t.Fatal(err)
		}
		signed, err := sets.Sign(s, key)
		if err == nil {
			err = Put(t.Context(), c, signed, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		after time.Duration
		want  []string
	}{
		{29 * 24 * time.Hour, []string{old, running, endless, published}},
		{31 * 24 * time.Hour, []string{running, endless, published}},
	} {
		if err := Tidy(t.Context(), c, now.Add(tc.after)); err != nil {
			t.Fatal(err)
		}
		all, err := All(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, p := range all {
			names = append(names, p.Name)
		}
		if d := cmp.Diff(tc.want, names); d != "" {
			t.Error(d)
		}
	}
	stream, err := c.JS.Stream(t.Context(), c.Name.Sets().Stream())
	if err != nil {
		t.Fatal(err)
	}
	if n := stream.CachedInfo().State.Msgs; n != 3 {
		t.Errorf("%d places are taken, want 3", n)
	}
}
