package bundles

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"culprit/fleet"
	"culprit/internal/config"
	"culprit/internal/event"
	"culprit/internal/testkit"
)

// Who asks is told why a host does not give a bundle, also if the host's clock is behind; and not why it once did not.
func TestRefused(t *testing.T) {
	t.Parallel()
	reader, host := readerAndHost(t)
	testkit.Eventually(t, "the host is connected", func() error { return host.FlushTimeout(5 * time.Second) })
	dir, id := t.TempDir(), event.NewID()
	evidenceOf(t, dir, "")

	status := fleet.Status{Host: "web1", Refused: []fleet.Refusal{{Capture: id, Why: "of before"}}}
	changed := func(change func(*fleet.Status)) {
		change(&status)
		status.Time = time.Now().Add(-time.Hour)
		body, _ := json.Marshal(status)
		if err := host.Put(context.Background(), host.Name.Hosts(), "web1", body); err != nil {
			t.Error(err)
		}
	}
	changed(func(*fleet.Status) {})
	capture := event.Capture{Event: event.Meta{ID: id}, Host: &event.Host{Name: "web1"}}
	f := Fetcher{Conn: reader, Dir: t.TempDir(), Wait: askEvery / 2, Told: func(string, ...any) {}}
	if _, err := f.Fetch(t.Context(), nil, &capture); err == nil || !strings.Contains(err.Error(), "did not come") {
		t.Errorf("before the host has answered: %v", err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		g := Giver{Conn: host, Dir: dir, Rule: config.BundlesRequest, Changed: changed, Log: discard}
		g.Run(ctx)
	}()
	f.Wait = 30 * time.Second
	for range 2 {
		if _, err := f.Fetch(t.Context(), nil, &capture); err == nil || !strings.Contains(err.Error(), "no such capture") {
			t.Errorf("after the host has answered: %v", err)
		}
	}
	cancel()
	<-done
}
