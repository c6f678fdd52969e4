package bundles

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"culprit/fleet"
	"culprit/internal/config"
	"culprit/internal/testkit"
	"culprit/internal/testkit/natsserver"
)

// A bundle for which the store has no room waits for it, a small one after it is given at once; with the rights of a host.
func TestFullStore(t *testing.T) {
	t.Parallel()
	const name = fleet.Name("f")
	keys := t.TempDir()
	users := []fleet.User{name.Operator(), name.HostUser("web1")}
	if _, err := fleet.Keys(keys, users); err != nil {
		t.Fatal(err)
	}
	s := natsserver.Start(t, name.ServerConfig(users))
	settings := func(user string) config.Fleet {
		return config.Fleet{Servers: []string{s.URL}, Name: "f", Host: user, Credentials: filepath.Join(keys, user+".nk")}
	}
	op, err := fleet.Connect(t.Context(), settings("operator"))
	if err != nil {
		t.Fatal(err)
	}
	defer op.Close()
	if _, err := op.Setup(t.Context(), fleet.Plan{Replicas: 1, MaxBytes: 1 << 30, BundleBytes: 1 << 20, Hosts: []string{"web1"}}); err != nil {
		t.Fatal(err)
	}
	bucket := name.Bundles("web1")
	store, err := op.JS.ObjectStore(t.Context(), bucket)
	if err != nil {
		t.Fatal(err)
	}
	random := make([]byte, 2<<20)
	rand.Read(random)
	if _, err := store.PutBytes(t.Context(), "old", random[:900<<10]); err != nil {
		t.Fatal(err)
	}
	host, err := fleet.ConnectHost(settings("web1"), discard)
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	testkit.Eventually(t, "the host is connected", func() error { return host.FlushTimeout(5 * time.Second) })

	dir := t.TempDir()
	never, _ := evidenceOf(t, dir, hex.EncodeToString(random)) // 2 MiB packed
	waits, _ := evidenceOf(t, dir, hex.EncodeToString(random[:300<<10]))
	small, _ := evidenceOf(t, dir, "812 1.0 read(0, \"x\")\n")
	has := func(id string) bool {
		t.Helper()
		err := op.Object(t.Context(), bucket, ObjectName(id), 1<<30, new(bytes.Buffer))
		if err != nil && !errors.Is(err, fleet.ErrNotFound) {
			t.Fatal(err)
		}
		return err == nil
	}
	g := newGiver(host, dir, config.BundlesAll)
	round := func() {
		t.Helper()
		g.again = time.Time{}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := g.byRule(ctx); err != nil {
			t.Fatal(err)
		}
	}
	round()
	if has(never.Event.ID) || has(waits.Event.ID) || !has(small.Event.ID) {
		t.Errorf("the store has 2 MiB: %v, 300 KiB: %v, the small one: %v", has(never.Event.ID), has(waits.Event.ID), has(small.Event.ID))
	}
	if g.again.IsZero() {
		t.Error("what has no room is not tried again later")
	}
	if err := g.give(t.Context(), waits.Event.ID, true); err == nil || !strings.Contains(err.Error(), "--bundle-bytes") {
		t.Errorf("who asks for what has no room is told %v", err)
	}
	if err := store.Delete(t.Context(), "old"); err != nil {
		t.Fatal(err)
	}
	round()
	if has(never.Event.ID) || !has(waits.Event.ID) {
		t.Errorf("after there is room the store has 2 MiB: %v, 300 KiB: %v", has(never.Event.ID), has(waits.Event.ID))
	}
	if len(g.needs) > 0 || len(g.given) != 3 {
		t.Errorf("waits for room: %v, done: %v", g.needs, g.given)
	}
}
