package fleet

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"culprit/evidence"
	"culprit/evidence/dossier/bundle"
	"culprit/fleet"
	"culprit/fleet/bundles"
	"culprit/internal/config"
	"culprit/internal/event"
	"culprit/internal/testkit/natsserver"
	"culprit/test/harness"
)

// gate makes a gate before the server of the site, at a port of its own there.
func (s *site) gate(bytes int64) *natsserver.Gate {
	s.t.Helper()
	var l net.Listener
	var err error
	s.Do(func() { l, err = net.Listen("tcp", "127.0.0.1:0") })
	if err != nil {
		s.t.Fatal(err)
	}
	return natsserver.NewGate(s.t, l, func() (net.Conn, error) { return s.Dial("tcp", "127.0.0.1:4222") }, bytes)
}

// operator connects an operator from outside.
func (s *site) operator() *fleet.Conn {
	s.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	door := natsserver.NewGate(s.t, l, func() (net.Conn, error) { return s.Dial("tcp", "127.0.0.1:4222") }, -1)
	op, err := fleet.Connect(s.t.Context(), config.Fleet{Servers: []string{door.URL}, Name: "culprit", Credentials: s.nkey("operator")})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(op.Close)
	return op
}

// ended writes a capture that has ended, with one trace, into evidence.
func ended(t *testing.T, dir, content string) (capture string) {
	t.Helper()
	store, err := evidence.Open(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now().Add(-time.Hour)
	c := event.Capture{
		Timestamp: began, Event: event.Meta{ID: event.NewID(), Kind: "event", Action: event.ActionCapture, Start: &began}, User: event.User{ID: "7"},
		Culprit: event.CaptureDetail{State: event.StateEnded},
	}
	c.Event.Finish(began.Add(time.Minute))
	trace := event.Trace{
		Timestamp: began, Event: event.Meta{ID: event.NewID(), Kind: "event", Action: event.ActionTrace, Start: &began}, User: event.User{ID: "7"},
		Process: event.Process{PID: 812, Name: "php"}, Culprit: event.TraceDetail{Capture: event.Reference{ID: c.Event.ID}, State: event.StateEnded},
	}
	f, err := store.Create(&trace)
	if err == nil {
		_, err = io.WriteString(f, content)
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	store.Capture(c)
	store.Trace(trace)
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	return c.Event.ID
}

// A host that is killed while it gives a bundle goes on with it at the chunk that the server has; nothing else is left there.
func TestBundleInterrupted(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	const size = 16 << 20 // of the trace; half of it in the bundle
	content := make([]byte, size/2)
	rand.Read(content)
	var d *harness.Daemon
	configuration, dir := s.Configure("")
	id := ended(t, dir, hex.EncodeToString(content))
	run := func(g *natsserver.Gate) {
		t.Helper()
		// Not compressed: that would make another bundle.
		configuration = s.ConfigureIn(dir, harness.LongWindow+harness.Badzone+fmt.Sprintf("evidence: {dir: %s, compress: false}\n", dir)+
			fmt.Sprintf("fleet: {servers: [%q], host: web1, credentials: %s, bundles: all}\n", g.URL, s.nkey("web1")))
		d = s.HuntWith(configuration, dir)
	}
	first := s.gate(size / 4)
	run(first)
	select {
	case <-first.Held:
	case <-time.After(2 * time.Minute):
		t.Fatalf("the bundle does not come\n%s", d.Output)
	}
	d.Signal(syscall.SIGKILL)
	d.Wait()
	d.Gone()
	second := s.gate(-1)
	run(second)
	d.AwaitLog("the fleet has a bundle")
	d.Stop()
	if !strings.Contains(d.Output.String(), "goes on giving a bundle that was interrupted") {
		t.Errorf("it does not go on\n%s", d.Output)
	}
	if most := int64(size / 2 * 3 / 4); second.Passed() > most {
		t.Errorf("%d bytes passed the second time, want %d at most", second.Passed(), most)
	}

	op := s.operator()
	bucket := op.Name.Bundles("web1")
	var got bytes.Buffer
	if err := op.Object(t.Context(), bucket, bundles.ObjectName(id), size, &got); err != nil {
		t.Fatal(err)
	}
	checked, err := bundle.Verify(bytes.NewReader(got.Bytes()))
	if err != nil || !checked.OK() || checked.Manifest.Capture.Event.ID != id || checked.Bytes < size {
		t.Errorf("the bundle: %+v, %v", checked, err)
	}
	stream, err := op.JS.Stream(t.Context(), "OBJ_"+bucket)
	if err != nil {
		t.Fatal(err)
	}
	info, err := stream.Info(t.Context(), jetstream.WithSubjectFilter("$O."+bucket+".C.>"))
	if err != nil {
		t.Fatal(err)
	}
	all, want := info.State.Subjects, uint64(got.Len()+128<<10-1)/(128<<10)
	if n := all["$O."+bucket+".C."+id]; len(all) != 1 || n != want {
		t.Errorf("the chunks on the server are %v, want %d", all, want)
	}
}
