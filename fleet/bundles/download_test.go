package bundles

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"culprit/evidence/catalogue"
	"culprit/evidence/directory"
	"culprit/evidence/tracefile"
	"culprit/fleet"
	"culprit/internal/config"
	"culprit/internal/event"
	"culprit/internal/testkit"
	"culprit/internal/testkit/natsserver"
)

// A given is a bundle that a host has given, and a mirror that knows of what it is.
type given struct {
	t       *testing.T
	server  *natsserver.Server
	op      *fleet.Conn
	object  fleet.Object
	capture event.Capture
	file    string // of the trace in the mirror
	content string // of the trace
	mirror  string
	reader  *catalogue.Reader
	told    bytes.Buffer
}

func newGiven(t *testing.T, content string) *given {
	t.Helper()
	g := &given{t: t, server: natsserver.Start(t, ""), content: content, mirror: t.TempDir()}
	g.op = g.connect(g.server.URL)
	if _, err := g.op.Setup(t.Context(), fleet.Plan{Replicas: 1, MaxBytes: 1 << 30, BundleBytes: 1 << 26, Hosts: []string{"web1"}}); err != nil {
		t.Fatal(err)
	}
	host, err := fleet.ConnectHost(g.config(g.server.URL), discard)
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	testkit.Eventually(t, "the host is connected", func() error { return host.FlushTimeout(5 * time.Second) })
	dir := t.TempDir()
	capture, trace := evidenceOf(t, dir, content)
	if err := newGiver(host, dir, config.BundlesAll).give(t.Context(), capture.Event.ID, true); err != nil {
		t.Fatal(err)
	}
	if g.object, err = g.op.Find(t.Context(), g.op.Name.Bundles("web1"), ObjectName(capture.Event.ID)); err != nil {
		t.Fatal(err)
	}
	capture.Host, trace.Host = &event.Host{Name: "web1"}, &event.Host{Name: "web1"}
	d, err := directory.Open(g.mirror)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	if err := d.Lock(); err != nil {
		t.Fatal(err)
	}
	c, err := catalogue.OpenMirror(d, discard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if _, err := c.Receive(t.Context(), catalogue.Position{Stream: "culprit_events", Created: time.Now(), Sequence: 1}, []catalogue.Received{
		{Host: "web1", Document: capture}, {Host: "web1", Document: trace},
	}); err != nil {
		t.Fatal(err)
	}
	g.reader, g.capture = c.Reader(), capture
	g.file = filepath.Join(g.mirror, directory.Traces, capture.Event.ID, filepath.Base(trace.File.Path))
	return g
}

func newGiver(host *fleet.Conn, dir, rule string) *Giver {
	return &Giver{Conn: host, Dir: dir, Rule: rule, Proofs: new(Proofs), Log: discard, open: map[string]bool{}, given: map[string]bool{}, needs: map[string]int64{}}
}

func (g *given) config(url string) config.Fleet {
	return config.Fleet{Servers: []string{url}, Name: "culprit", Host: "web1"}
}

func (g *given) connect(url string) *fleet.Conn {
	g.t.Helper()
	c, err := fleet.Connect(g.t.Context(), g.config(url))
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(c.Close)
	return c
}

// fetch fetches the bundle over a connection.
func (g *given) fetch(ctx context.Context, c *fleet.Conn) error {
	g.told.Reset()
	f := Fetcher{Conn: c, Dir: g.mirror, Max: 1 << 26, Wait: time.Minute, Told: func(format string, args ...any) { fmt.Fprintf(&g.told, format, args...) }}
	_, err := f.Fetch(ctx, g.reader, &g.capture)
	return err
}

// interrupt fetches the bundle, and ends that in the middle, as if the command was.
func (g *given) interrupt() {
	g.t.Helper()
	gate := g.server.Gate(g.object.Size / 2)
	ctx, end := context.WithCancel(g.t.Context())
	go func() {
		<-gate.Held
		end()
	}()
	if err := g.fetch(ctx, g.connect(gate.URL)); !errors.Is(err, context.Canceled) {
		g.t.Fatalf("a fetch that is ended: %v", err)
	}
}

// part is the file in which the bundle arrives.
func (g *given) part() string {
	return filepath.Join(g.mirror, partPrefix+g.capture.Event.ID+partSuffix)
}

// arrived fails unless the mirror has the trace, and nothing else is left; then it removes the trace.
func (g *given) arrived() {
	g.t.Helper()
	f, err := tracefile.Open(g.file)
	if err != nil {
		g.t.Fatal(err)
	}
	got, err := io.ReadAll(f)
	f.Close()
	if err != nil || string(got) != g.content {
		g.t.Errorf("the trace has %d bytes, %v; want %d", len(got), err, len(g.content))
	}
	if _, err := os.Stat(g.part()); !errors.Is(err, os.ErrNotExist) {
		g.t.Errorf("a part is left: %v", err)
	}
	if err := os.RemoveAll(filepath.Join(g.mirror, directory.Traces)); err != nil {
		g.t.Fatal(err)
	}
}

func random(n int) string {
	b := make([]byte, n/2)
	rand.Read(b)
	return hex.EncodeToString(b)
}

// A fetch goes on at the chunk that it had: when the server is there again, and when the command is given again.
func TestFetchGoesOn(t *testing.T) {
	t.Parallel()
	g := newGiven(t, random(8<<20))
	gate := g.server.Gate(g.object.Size / 2)
	conn, done := g.connect(gate.URL), make(chan error, 1)
	go func() { done <- g.fetch(t.Context(), conn) }()
	select {
	case <-gate.Held:
	case err := <-done:
		t.Fatalf("it ended before the server was killed: %v", err)
	}
	g.server.Kill()
	gate.Cut()
	gate.Open()
	g.server.Start()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	g.arrived()
	if most := g.object.Size * 5 / 4; gate.Passed() > most {
		t.Errorf("%d bytes came, want %d at most", gate.Passed(), most)
	}

	g.interrupt()
	gate = g.server.Gate(-1)
	if err := g.fetch(t.Context(), g.connect(gate.URL)); err != nil {
		t.Fatal(err)
	}
	g.arrived()
	if most := g.object.Size * 3 / 4; gate.Passed() > most || !strings.Contains(g.told.String(), "going on") {
		t.Errorf("%d bytes came the second time, want %d at most; it said %s", gate.Passed(), most, g.told.String())
	}
}

// What is in the place of a part, and is not one of this object or not whole, begins anew. No wrong byte comes into the mirror.
func TestFetchBeginsAnew(t *testing.T) {
	t.Parallel()
	g := newGiven(t, random(4<<20))
	change := func(what func(f *os.File) error) {
		t.Helper()
		f, err := os.OpenFile(g.part(), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := what(f); err != nil {
			t.Fatal(err)
		}
	}
	flip := func(f *os.File) error {
		_, err := f.WriteAt([]byte("damaged"), partHead+1000)
		return err
	}
	for what, tc := range map[string]struct {
		do     func()
		goesOn bool
	}{
		"its bytes were changed": {do: func() { change(flip) }},
		"its head was changed":   {do: func() { change(func(f *os.File) error { _, err := f.WriteAt([]byte("\x00"), 3); return err }) }},
		"it was cut short":       {do: func() { change(func(f *os.File) error { return f.Truncate(partHead + 1000) }) }},
		"it was made to look whole": {goesOn: true, do: func() {
			change(func(f *os.File) error {
				var h head
				text := make([]byte, partHead)
				if _, err := f.ReadAt(text, 0); err != nil {
					return err
				}
				if err := json.Unmarshal(text[:bytes.IndexByte(text, '\n')], &h); err != nil {
					return err
				}
				if err := flip(f); err != nil {
					return err
				}
				sum := sha256.New()
				if _, err := io.Copy(sum, io.NewSectionReader(f, partHead, h.Size)); err != nil {
					return err
				}
				h.SHA256 = fmt.Sprintf("%x", sum.Sum(nil))
				text, _ = json.Marshal(h)
				_, err := f.WriteAt(append(text, '\n'), 0)
				return err
			})
		}},
		"the object was put there anew": {do: func() {
			store, err := g.op.JS.ObjectStore(t.Context(), g.object.Bucket)
			if err != nil {
				t.Fatal(err)
			}
			content, err := store.GetBytes(t.Context(), g.object.Name)
			if err == nil {
				_, err = store.Put(t.Context(), jetstream.ObjectMeta{Name: g.object.Name}, bytes.NewReader(content))
			}
			if err != nil {
				t.Fatal(err)
			}
		}},
	} {
		g.interrupt()
		tc.do()
		if err := g.fetch(t.Context(), g.op); err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if goesOn := strings.Contains(g.told.String(), "going on"); goesOn != tc.goesOn {
			t.Errorf("%s: it says %q", what, g.told.String())
		}
		g.arrived()
	}

	// Two at the same time, and a part that nobody goes on with.
	g.interrupt()
	d, err := directory.Open(g.mirror)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	p, err := openPart(d, g.capture.Event.ID)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.fetch(t.Context(), g.op); !errors.Is(err, errFetched) {
		t.Errorf("while another fetches it: %v", err)
	}
	p.close()
	long := time.Now().Add(-2 * partAge)
	if err := os.Chtimes(g.part(), long, long); err != nil {
		t.Fatal(err)
	}
	if p, err = openPart(d, event.NewID()); err != nil {
		t.Fatal(err)
	}
	p.close()
	if _, err := os.Stat(g.part()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an old part is left: %v", err)
	}
}

// More than was said is not taken, packed or unpacked, whatever the host says; and nothing of it is left.
func TestFetchBounded(t *testing.T) {
	t.Parallel()
	for what, content := range map[string]string{"packed": random(4 << 20), "unpacked": strings.Repeat("812 1.0 read(0, \"x\")\n", 200_000)} {
		g := newGiven(t, content)
		if large := g.object.Size > 1<<20; large != (what == "packed") {
			t.Fatalf("%s: the bundle has %d bytes", what, g.object.Size)
		}
		f := Fetcher{Conn: g.op, Dir: g.mirror, Max: 1 << 20, Told: func(string, ...any) {}}
		if _, err := f.Fetch(t.Context(), g.reader, &g.capture); !errors.Is(err, fleet.ErrTooLarge) || !strings.Contains(err.Error(), "--max-size") {
			t.Errorf("%s: %v", what, err)
		}
		for _, left := range []string{g.part(), g.file} {
			if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s: %s is left: %v", what, left, err)
			}
		}
	}
}
