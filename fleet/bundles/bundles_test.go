package bundles

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"culprit/evidence"
	"culprit/evidence/catalogue"
	"culprit/evidence/directory"
	"culprit/evidence/tracefile"
	"culprit/fleet"
	"culprit/internal/config"
	"culprit/internal/event"
	"culprit/internal/testkit"
	"culprit/internal/testkit/natsserver"
)

var discard = slog.New(slog.DiscardHandler)

// readerAndHost connects somebody who looks at a fleet and the host web1 of it.
func readerAndHost(t *testing.T) (reader, host *fleet.Conn) {
	t.Helper()
	s := natsserver.Start(t, "")
	settings := config.Fleet{Servers: []string{s.URL}, Name: "culprit", Host: "web1"}
	reader, err := fleet.Connect(t.Context(), settings)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(reader.Close)
	if _, err := reader.Setup(t.Context(), fleet.Plan{Replicas: 1, MaxBytes: 1 << 30, BundleBytes: 1 << 24, Hosts: []string{"web1"}}); err != nil {
		t.Fatal(err)
	}
	if host, err = fleet.ConnectHost(settings, discard); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(host.Close)
	return reader, host
}

// A host gives a capture that has ended, by rule; its traces come into the mirror, and nothing that it calls otherwise does.
func TestBundles(t *testing.T) {
	t.Parallel()
	reader, host := readerAndHost(t)

	// The host's evidence.
	dir := t.TempDir()
	began := time.Now().Add(-time.Hour)
	capture, trace := evidenceOf(t, dir, "812 1.0 read(0, \"x\")\n")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		g := Giver{Conn: host, Dir: dir, Rule: config.BundlesAll, Changed: func(func(*fleet.Status)) {}, Log: discard}
		g.Run(ctx)
	}()
	objects, err := reader.JS.ObjectStore(t.Context(), reader.Name.Bundles("web1"))
	if err != nil {
		t.Fatal(err)
	}
	var bundle []byte
	testkit.Eventually(t, "the bundle", func() (err error) {
		bundle, err = objects.GetBytes(t.Context(), ObjectName(capture.Event.ID))
		return err
	})
	cancel()
	<-done

	// The mirror knows that capture and its trace, and another capture, for which the host gives the same bundle.
	mirror := t.TempDir()
	of := &event.Host{Name: "web1"}
	other := capture
	other.Event.ID = event.NewID()
	capture.Host, other.Host, trace.Host = of, of, of
	d, err := directory.Open(mirror)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.Lock(); err != nil {
		t.Fatal(err)
	}
	c, err := catalogue.OpenMirror(d, discard)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Receive(t.Context(), catalogue.Position{Stream: "culprit_events", Created: began, Sequence: 1}, []catalogue.Received{
		{Host: "web1", Document: capture}, {Host: "web1", Document: other}, {Host: "web1", Document: trace},
	}); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{ObjectName(other.Event.ID): bundle, ObjectName(trace.Event.ID): bundle[:len(bundle)/2]} {
		if _, err := objects.Put(t.Context(), jetstream.ObjectMeta{Name: name}, bytes.NewReader(content)); err != nil {
			t.Fatal(err)
		}
	}
	fetcher := Fetcher{Conn: reader, Dir: mirror, Max: 1 << 30, Told: func(string, ...any) {}}
	got, err := fetcher.Fetch(t.Context(), c.Reader(), &capture)
	if err != nil || got.Files == 0 {
		t.Fatalf("fetched %+v, %v", got, err)
	}
	if name := filepath.Join(mirror, directory.Traces, capture.Event.ID, filepath.Base(trace.File.Path)); !tracefile.Exists(name) {
		t.Errorf("there is no trace %s", name)
	}
	small := fetcher
	small.Free = 1 << 60
	if _, err := small.Fetch(t.Context(), c.Reader(), &capture); err == nil || !strings.Contains(err.Error(), "evidence.min_free") {
		t.Errorf("onto a full disk: %v", err)
	}
	if _, err := fetcher.Fetch(t.Context(), c.Reader(), &other); err == nil || !strings.Contains(err.Error(), "is of another") {
		t.Errorf("the bundle of another capture: %v", err)
	}
	half := capture
	half.Event.ID = trace.Event.ID
	if _, err := fetcher.Fetch(t.Context(), c.Reader(), &half); err == nil || !strings.Contains(err.Error(), "not intact") {
		t.Errorf("half a bundle: %v", err)
	}
	half.Event.ID = event.NewID()
	if _, err := fetcher.Fetch(t.Context(), c.Reader(), &half); err == nil || errors.Is(err, fleet.ErrNotFound) || !strings.Contains(err.Error(), "no member") {
		t.Errorf("of a host that is no member: %v", err)
	}
}

// evidenceOf writes a capture that has ended, with one trace, into the evidence in dir.
func evidenceOf(t *testing.T, dir, content string) (event.Capture, event.Trace) {
	t.Helper()
	store, err := evidence.Open(dir, discard)
	if err != nil {
		t.Fatal(err)
	}
	began, ended := time.Now().Add(-time.Hour), time.Now().Add(-time.Minute)
	capture := event.Capture{
		Timestamp: began, Event: event.Meta{ID: event.NewID(), Kind: "event", Action: event.ActionCapture, Start: &began}, User: event.User{ID: "7"},
		Culprit: event.CaptureDetail{State: event.StateEnded},
	}
	capture.Event.Finish(ended)
	trace := event.Trace{
		Timestamp: began, Event: event.Meta{ID: event.NewID(), Kind: "event", Action: event.ActionTrace, Start: &began}, User: event.User{ID: "7"},
		Process: event.Process{PID: 812, Name: "php"}, Culprit: event.TraceDetail{Capture: event.Reference{ID: capture.Event.ID}, State: event.StateEnded},
	}
	f, err := store.Create(&trace)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(f, content); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	store.Capture(capture)
	store.Trace(trace)
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	return capture, trace
}

// What is unpacked has to have room: a small bundle can hold much.
func TestBounded(t *testing.T) {
	t.Parallel()
	full := errors.New("full")
	b := bounded{left: 10, err: full}
	for i, want := range []error{nil, full} {
		b.r = strings.NewReader("1234567")
		if _, err := io.Copy(io.Discard, &b); !errors.Is(err, want) {
			t.Errorf("file %d: %v, want %v", i, err, want)
		}
	}
}
