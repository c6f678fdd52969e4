package evidence

import (
	"bytes"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"culprit/evidence/catalogue"
	"culprit/evidence/internal/fixture"
	"culprit/evidence/tracefile"
	"culprit/internal/event"
	"culprit/internal/words"
)

func sameAddr(a, b netip.Addr) bool { return a == b }

func open(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := Open(dir, fixture.Log)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func reader(t testing.TB, dir string) *catalogue.Reader {
	t.Helper()
	r, err := catalogue.OpenReader(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func aTrace(s *Store, t testing.TB, capture, hit, state string) event.Trace {
	tr := fixture.Trace(capture, hit, state)
	f, err := s.Create(&tr)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(f, "# header\n812 1.0 read(0, ")
	f.Close()
	return tr
}

// What is recorded is read back as it was, by a reader that was there before.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "deep", "er")
	s := open(t, dir)
	r := reader(t, dir)
	h := fixture.Hit("7", "a")
	s.Hit(h)
	s.Repeated(h.Event.ID, 5)
	c := fixture.Capture(event.StateRunning)
	s.Capture(c)
	c.Culprit.State = event.StateEnded
	c.Event.Finish(fixture.When.Add(time.Second))
	s.Capture(c)
	tr := aTrace(s, t, c.Event.ID, h.Event.ID, event.StateEnded)
	s.Trace(tr)
	loss := event.NewLoss("packets", "", 9)
	loss.Timestamp = fixture.When
	s.Lost(loss)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	h.Culprit.Count = 5
	if d := cmp.Diff([]event.Hit{*h}, fixture.All(t, r.Hits(catalogue.Filter{})), cmp.Comparer(sameAddr)); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]event.Capture{c}, fixture.All(t, r.Captures(catalogue.Filter{}))); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]event.Trace{tr}, fixture.All(t, r.Traces(catalogue.Filter{}))); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]event.Loss{loss}, fixture.All(t, r.Losses(catalogue.Filter{}))); d != "" {
		t.Error(d)
	}
	for id, want := range map[string]string{
		h.Event.ID:                       "*event.Hit",
		strings.ToLower(c.Event.ID[10:]): "*event.Capture",
		" " + tr.Event.ID[16:]:           "*event.Trace",
		c.Event.ID[:6]:                   "more than one",
		"ZZZZ":                           "no hit, capture, trace or snapshot",
		"%":                              "is not an id",
		"":                               "is not an id",
	} {
		found, err := r.Find(id)
		got := fmt.Sprintf("%T %v", found.Document(), err)
		if !strings.Contains(got, want) {
			t.Errorf("Find(%q) = %s, want %s", id, got, want)
		}
	}
}

// Everything is ours alone, and a process's name leads nowhere else.
func TestModesAndNames(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "evidence")
	s := open(t, dir)
	defer s.Close()
	tr := aTrace(s, t, "CAP", "HIT", event.StateRunning)
	if want := filepath.Join(dir, "traces", "CAP", "812-_ph_p-"+tr.Event.ID+".strace"); tr.File.Path != want {
		t.Errorf("trace file %s, want %s", tr.File.Path, want)
	}
	filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			t.Fatal(err)
		}
		info, _ := e.Info()
		if info.Mode().Perm()&0o077 != 0 && !strings.HasPrefix(e.Name(), "catalogue.db") { // SQLite's are by umask
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return nil
	})
	// A link in the way is not followed, a file in the way is not opened.
	outside := t.TempDir()
	if err := os.Symlink(outside, filepath.Join(dir, "traces", "EVIL")); err != nil {
		t.Fatal(err)
	}
	evil := tr
	evil.Culprit.Capture.ID = "EVIL"
	if _, err := s.Create(&evil); err == nil {
		t.Errorf("a trace went through a link, to %s", evil.File.Path)
	}
	if _, err := s.Create(&tr); err == nil {
		t.Errorf("an existing file was opened: %s", tr.File.Path)
	}
	if left, _ := os.ReadDir(outside); len(left) != 0 {
		t.Errorf("%d files outside", len(left))
	}
}

func TestOneOwner(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	if _, err := Open(dir, fixture.Log); err == nil || !strings.Contains(err.Error(), "another culprit") {
		t.Errorf("a second store: %v", err)
	}
	s.Close()
	open(t, dir).Close()
}

// What a killed daemon left running is marked, in the catalogue and in the file.
func TestKilledDaemon(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	running, ended := fixture.Capture(event.StateDraining), fixture.Capture(event.StateEnded)
	s.Capture(running)
	s.Capture(ended)
	tr := aTrace(s, t, running.Event.ID, "H", event.StateRunning)
	s.Trace(tr)
	s.Close()

	open(t, dir).Close()
	open(t, dir).Close() // it is marked once
	r := reader(t, dir)
	for _, c := range fixture.All(t, r.Captures(catalogue.Filter{})) {
		want := map[string]string{running.Event.ID: event.StateLost, ended.Event.ID: event.StateEnded}[c.Event.ID]
		if c.Culprit.State != want {
			t.Errorf("capture %s is %s, want %s", c.Event.ID, c.Culprit.State, want)
		}
	}
	got := fixture.All(t, r.Traces(catalogue.Filter{}))[0]
	text, err := os.ReadFile(tr.File.Path)
	if err != nil {
		t.Fatal(err)
	}
	if got.Culprit.State != event.StateLost || got.File.Size != int64(len(text)) {
		t.Errorf("trace %+v with %d bytes", got, len(text))
	}
	if n := strings.Count(string(text), "# ended: culprit was killed: this trace is partial\n"); n != 1 {
		t.Errorf("the file says %d times that it is partial:\n%s", n, text)
	}
}

// A damaged catalogue is kept aside, a new one begins, and no trace file is lost.
func TestDamaged(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func([]byte) []byte{
		"no catalogue": func([]byte) []byte { return []byte("this is no data base at all, not even nearly") },
		"overwritten": func(b []byte) []byte {
			for i := 4096; i < len(b); i++ {
				b[i] = 0xa5
			}
			return b
		},
		"cut": func(b []byte) []byte { return b[:len(b)/2+100] },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s := open(t, dir)
			c := fixture.Capture(event.StateEnded)
			s.Capture(c)
			plain, compressed := aTrace(s, t, c.Event.ID, "H", event.StateEnded), aTrace(s, t, c.Event.ID, "H", event.StateEnded)
			s.Trace(plain)
			s.Trace(compressed)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if err := tracefile.Compress(t.Context(), compressed.File.Path); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(dir, "catalogue.db")
			good, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			bad := damage(good)
			if err := os.WriteFile(file, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			s = open(t, dir)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			r := reader(t, dir)
			ids := map[string]bool{}
			for _, tr := range fixture.All(t, r.Traces(catalogue.Filter{})) {
				ids[tr.Event.ID] = tr.Culprit.State == event.StateLost
			}
			if !ids[plain.Event.ID] || !ids[compressed.Event.ID] || len(ids) != 2 {
				t.Errorf("the traces are %v, want %s and %s", ids, plain.Event.ID, compressed.Event.ID)
			}
			aside, _ := filepath.Glob(filepath.Join(dir, "catalogue.db"+".damaged-*"))
			var kept []byte
			if len(aside) > 0 {
				kept, _ = os.ReadFile(aside[0])
			}
			if !bytes.Equal(kept, bad) {
				t.Errorf("what is kept aside is %v, %d bytes, want the %d that were there", aside, len(kept), len(bad))
			}
			if ls := fixture.All(t, r.Losses(catalogue.Filter{})); len(ls) != 1 || !strings.Contains(words.Loss(ls[0].Culprit), "damaged") {
				t.Errorf("the losses are %+v", ls)
			}
		})
	}
}

// When a culprit was killed, the next one says that nothing was watched meanwhile.
func TestUnclean(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for range 2 {
		s := open(t, dir)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if ls := fixture.All(t, reader(t, dir).Losses(catalogue.Filter{})); len(ls) != 0 {
		t.Errorf("after good ends: %+v", ls)
	}
	if err := os.WriteFile(filepath.Join(dir, "lock"), []byte("812\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if ls := fixture.All(t, reader(t, dir).Losses(catalogue.Filter{})); len(ls) != 1 || !strings.Contains(words.Loss(ls[0].Culprit), "culprit was killed") {
		t.Errorf("after a bad end: %+v", ls)
	}
}

// Many writers and readers at once; nothing is lost.
func TestConcurrent(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	r := reader(t, dir)
	const writers, each = 4, 1000
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range each {
				s.Hit(fixture.Hit("7", "a"))
			}
		})
	}
	wg.Go(func() {
		for range 20 {
			for _, err := range r.Hits(catalogue.Filter{Last: 10}) {
				if err != nil {
					t.Error(err)
				}
			}
		}
	})
	wg.Wait()
	s.Close()
	if n := len(fixture.All(t, r.Hits(catalogue.Filter{}))); n != writers*each {
		t.Errorf("%d hits, want %d", n, writers*each)
	}
}

func BenchmarkHits(b *testing.B) {
	s := open(b, b.TempDir())
	h := fixture.Hit("7", "a")
	b.ReportAllocs()
	for b.Loop() {
		c := *h
		c.Event.ID = event.NewID()
		s.Hit(&c)
	}
	s.Close()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "hits/s")
}

// What a culprit left running that was killed is lost as soon as it is, not only when
// another one says so.
func TestLeftRunning(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	c := fixture.Capture(event.StateDraining)
	s.Capture(c)
	tr := aTrace(s, t, c.Event.ID, "H", event.StateRunning)
	s.Trace(tr)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	states := func() (capture, trace string) {
		r := reader(t, dir)
		return fixture.All(t, r.Captures(catalogue.Filter{}))[0].Culprit.State, fixture.All(t, r.Traces(catalogue.Filter{}))[0].Culprit.State
	}
	// As it is while it runs, and when it is killed.
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if _, err := lock.WriteString("812\n"); err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if capture, trace := states(); capture != event.StateDraining || trace != event.StateRunning {
		t.Errorf("while it runs: %s, %s", capture, trace)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_UN); err != nil {
		t.Fatal(err)
	}
	if capture, trace := states(); capture != event.StateLost || trace != event.StateLost {
		t.Errorf("when it was killed: %s, %s", capture, trace)
	}
}
