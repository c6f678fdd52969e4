package mirror

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"culprit/evidence/catalogue"
	"culprit/fleet"
	"culprit/internal/config"
	"culprit/internal/testkit"
	"culprit/internal/testkit/natsserver"
)

// connect connects to a server, on which there is a fleet.
func connect(t testing.TB, s *natsserver.Server) *fleet.Conn {
	t.Helper()
	c, err := fleet.Connect(t.Context(), config.Fleet{Servers: []string{s.URL}, Name: "culprit"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	if _, err := c.Setup(t.Context(), fleet.Plan{Replicas: 1, MaxBytes: 1 << 30, BundleBytes: 1 << 20, Hosts: []string{"web1"}}); err != nil {
		t.Fatal(err)
	}
	return c
}

func publish(t testing.TB, c *fleet.Conn, host string, data []byte) {
	t.Helper()
	msg := nats.NewMsg(c.Name.Subject(host))
	msg.Header.Set(fleet.HeaderOutbox, "1")
	msg.Data = data
	if _, err := c.JS.PublishMsg(t.Context(), msg); err != nil {
		t.Fatal(err)
	}
}

// A mirror has all hosts of a large fleet, also those that come later.
func TestManyMembers(t *testing.T) {
	t.Parallel()
	c := connect(t, natsserver.Start(t, ""))
	put := func(i int) {
		host := fmt.Sprint("web", i)
		if _, err := c.JS.PublishAsync(c.Name.Hosts().Subject(host), fmt.Appendf(nil, `{"host":%q}`, host)); err != nil {
			t.Fatal(err)
		}
	}
	const hosts = 1500
	for i := range hosts {
		put(i)
	}
	<-c.JS.PublishAsyncComplete()
	m := openMirror(t, t.TempDir())
	members := func(want int) error {
		all, err := catalogue.All(m.catalogue.Reader().Members())
		if err == nil && len(all) != want {
			err = fmt.Errorf("%d members, want %d", len(all), want)
		}
		return err
	}
	if err := m.CatchUp(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if err := members(hosts); err != nil {
		t.Error(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- m.Follow(ctx, c, func() { close(ready) }) }()
	<-ready
	for i := range hosts {
		put(hosts + i)
	}
	testkit.Eventually(t, "the new hosts are there", func() error { return members(2 * hosts) })
	stop()
	if err := errors.Join(<-done, m.Close()); err != nil {
		t.Error(err)
	}
}

// A mirror catches up with a real server, and follows it, also when the server was killed in between.
func TestFollow(t *testing.T) {
	t.Parallel()
	s := natsserver.Start(t, "")
	c := connect(t, s)
	dir := t.TempDir()
	publish(t, c, "web1.example.com", lines(t, hitOf("web1.example.com", "a.test")))
	for key, value := range map[string]string{"web1_example_com": `{"host":"web1.example.com"}`, "long": strings.Repeat("x", fleet.MaxStatus+1), "Bad": `{}`, "broken": `no JSON`} {
		if err := c.Put(t.Context(), c.Name.Hosts(), key, []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	m := openMirror(t, dir)
	for range 2 {
		if err := m.CatchUp(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	testkit.Eventually(t, "nothing of those who looked stays on the server", func() error {
		stream, err := c.JS.Stream(t.Context(), c.Name.Stream())
		if err == nil && stream.CachedInfo().State.Consumers > 0 {
			err = fmt.Errorf("there are %d consumers", stream.CachedInfo().State.Consumers)
		}
		return err
	})
	want := []string{"web1.example.com a.test 1 false 4"}
	if d := cmp.Diff(want, hits(t, dir)); d != "" {
		t.Error(d)
	}
	members, err := catalogue.All(m.catalogue.Reader().Members())
	if err != nil || len(members) != 2 || members[0].Host != "long" || members[1].Host != "web1.example.com" {
		t.Fatalf("the members are %+v, %v", members, err)
	}
	if _, err := fleet.ReadStatus("long", members[0].Document); err == nil || !strings.Contains(err.Error(), "65537 bytes") {
		t.Errorf("a status that is too long: %v", err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	ready, done := make(chan struct{}), make(chan error)
	go func() { done <- m.Follow(ctx, c, func() { close(ready) }) }()
	<-ready
	for i := range 3 {
		publish(t, c, "web2", lines(t, hitOf("web2", fmt.Sprintf("%d.test", i))))
		want = append(want, fmt.Sprintf("web2 %d.test 1 false 4", i))
		testkit.Eventually(t, "the hit", func() error {
			if d := cmp.Diff(want, hits(t, dir)); d != "" {
				return fmt.Errorf("%s", d)
			}
			return nil
		})
		s.Kill()
		s.Start()
		testkit.Eventually(t, "connected", func() error { return c.FlushTimeout(time.Second) })
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	m.Close()
	if lost := lost(t, dir); len(lost) > 0 {
		t.Error(lost)
	}

	// A stream that was made anew begins anew.
	if err := c.JS.DeleteStream(t.Context(), c.Name.Stream()); err != nil {
		t.Fatal(err)
	}
	connect(t, s)
	publish(t, c, "web1", lines(t, hitOf("web1", "new.test")))
	m = openMirror(t, dir)
	defer m.Close()
	if err := m.CatchUp(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(append(want, "web1 new.test 1 false 4"), hits(t, dir)); d != "" {
		t.Error(d)
	}
}

// A mirror ends catching up though the servers have removed the end of the stream, or all of it, and counts what it did not get.
func TestRemoved(t *testing.T) {
	t.Parallel()
	c := connect(t, natsserver.Start(t, ""))
	dir := t.TempDir()
	m := openMirror(t, dir)
	defer m.Close()
	send := func(host string, n int) {
		t.Helper()
		for range n {
			publish(t, c, host, lines(t, hitOf(host, "a.test")))
		}
	}
	catchUp := func(unread map[string]uint64) {
		t.Helper()
		if err := m.CatchUp(t.Context(), c); err != nil {
			t.Error(err)
		}
		if d := cmp.Diff(unread, lost(t, dir)); d != "" {
			t.Error(d)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		if behind, err := Await(ctx, c, dir); err != nil || behind > 0 {
			t.Errorf("the mirror lacks %d, %v", behind, err)
		}
	}
	purge := func(options ...jetstream.StreamPurgeOpt) {
		t.Helper()
		stream, err := c.JS.Stream(t.Context(), c.Name.Stream())
		if err == nil {
			err = stream.Purge(t.Context(), options...)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	send("web1", 5)
	catchUp(map[string]uint64{})
	send("web1", 5)
	purge()
	for range 2 {
		catchUp(map[string]uint64{" unread ": 5})
	}
	send("web2", 2)
	send("web1", 2)
	purge(jetstream.WithPurgeSubject(c.Name.Subject("web1")))
	catchUp(map[string]uint64{" unread ": 5})
	send("web2", 1)
	catchUp(map[string]uint64{" unread ": 7})
	if n := len(hits(t, dir)); n != 8 {
		t.Errorf("there are %d hits", n)
	}
}

// What was put into the stream by the answer to a request, or by no culprit, is not taken for what the host sent.
func TestForged(t *testing.T) {
	t.Parallel()
	c := connect(t, natsserver.Start(t, ""))
	dir := t.TempDir()
	for _, header := range []nats.Header{nil, {"Nats-Stream": {"culprit_events"}, fleet.HeaderOutbox: {"1"}}} {
		if _, err := c.JS.PublishMsg(t.Context(), &nats.Msg{Subject: c.Name.Subject("web1"), Header: header, Data: lines(t, hitOf("web1", "forged.test"))}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Handover(t.Context(), "web1"); err != nil { // that is not forged
		t.Fatal(err)
	}
	publish(t, c, "web1", lines(t, hitOf("web1", "true.test")))
	m := openMirror(t, dir)
	defer m.Close()
	if err := m.CatchUp(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"web1 true.test 1 false 4"}, hits(t, dir)); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(map[string]uint64{" untaken forged": 2}, lost(t, dir)); d != "" {
		t.Error(d)
	}
}
