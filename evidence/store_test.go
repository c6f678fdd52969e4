package evidence

import (
	"bytes"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"culprit/evidence/tracefile"
	"culprit/internal/event"
	"culprit/internal/words"
)

var logs = slog.New(slog.DiscardHandler)

func sameAddr(a, b netip.Addr) bool { return a == b }

func open(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := Open(dir, logs)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func reader(t testing.TB, dir string) *Reader {
	t.Helper()
	r, err := OpenReader(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

var when = time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC)

func aHit(uid, rule string) *event.Hit {
	return &event.Hit{
		Timestamp: when,
		Event:     event.Meta{ID: event.NewID(), Kind: "alert", Action: event.ActionHit},
		Rule:      event.Rule{Name: rule},
		User:      &event.User{ID: uid},
		Network:   event.Network{Transport: "udp", Type: "ipv4", Bytes: 60},
		Source:    event.Endpoint{IP: netip.MustParseAddr("192.0.2.1"), Port: 4000},
		DNS:       &event.DNS{ID: "1", Question: event.Question{Name: "x.badzone.test", Type: "A", Class: "IN"}},
		Process:   &event.Process{PID: 812, Start: when, CommandLine: "php \x1b[2J", Parent: &event.Process{PID: 1}},
		Culprit:   event.HitDetail{Count: 1, Origin: event.Origin{Grade: event.GradeNone, Reason: &event.Unattributed{Code: "why"}}, Capture: &event.Reference{ID: "C"}},
		Packet:    []byte{0x45, 0, 1, 2},
	}
}

func aCapture(state string) event.Capture {
	return event.Capture{
		Timestamp: when, Event: event.Meta{ID: event.NewID(), Kind: "event", Action: event.ActionCapture, Start: &when},
		User: event.User{ID: "7"}, Rule: &event.Rule{Name: "a"},
		Culprit: event.CaptureDetail{State: state, Level: 1, Hits: 2, Missed: event.MissedCounts{"gone": 3}},
	}
}

func aTrace(s *Store, t testing.TB, capture, hit, state string) event.Trace {
	tr := event.Trace{
		Timestamp: when, Event: event.Meta{ID: event.NewID(), Kind: "event", Action: event.ActionTrace, Start: &when},
		User: event.User{ID: "7"}, Rule: &event.Rule{Name: "a"}, Process: event.Process{PID: 812, Name: "../ph p"},
		Culprit: event.TraceDetail{Capture: event.Reference{ID: capture}, Hit: &event.Reference{ID: hit}, State: state, FoundBy: event.FoundExec},
	}
	f, err := s.Create(&tr)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(f, "# header\n812 1.0 read(0, ")
	f.Close()
	return tr
}

func all[T any](t testing.TB, seq func(func(T, error) bool)) (vs []T) {
	t.Helper()
	for v, err := range seq {
		if err != nil {
			t.Fatal(err)
		}
		vs = append(vs, v)
	}
	return vs
}

// What is recorded is read back as it was, by a reader that was there before.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "deep", "er")
	s := open(t, dir)
	r := reader(t, dir)
	h := aHit("7", "a")
	s.Hit(h)
	s.Repeated(h.Event.ID, 5)
	c := aCapture(event.StateRunning)
	s.Capture(c)
	c.Culprit.State = event.StateEnded
	c.Event.Finish(when.Add(time.Second))
	s.Capture(c)
	tr := aTrace(s, t, c.Event.ID, h.Event.ID, event.StateEnded)
	s.Trace(tr)
	loss := event.NewLoss("packets", "", 9)
	loss.Timestamp = when
	s.Lost(loss)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	h.Culprit.Count = 5
	if d := cmp.Diff([]event.Hit{*h}, all(t, r.Hits(Filter{})), cmp.Comparer(sameAddr)); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]event.Capture{c}, all(t, r.Captures(Filter{}))); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]event.Trace{tr}, all(t, r.Traces(Filter{}))); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]event.Loss{loss}, all(t, r.Losses(Filter{}))); d != "" {
		t.Error(d)
	}
	for id, want := range map[string]string{
		h.Event.ID:                       "*event.Hit",
		strings.ToLower(c.Event.ID[10:]): "*event.Capture",
		" " + tr.Event.ID[16:]:           "*event.Trace",
		c.Event.ID[:6]:                   "more than one",
		"ZZZZ":                           "no hit, capture or trace",
		"%":                              "is not an id",
		"":                               "is not an id",
	} {
		found, err := r.Find(id)
		got := fmt.Sprintf("%T %v", found, err)
		if !strings.Contains(got, want) {
			t.Errorf("Find(%q) = %s, want %s", id, got, want)
		}
	}
}

func TestFilters(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	var ids []string
	for i := range 6 {
		h := aHit([]string{"7", "8"}[i%2], []string{"a", "b", "c"}[i%3])
		if i == 5 {
			h.User, h.Culprit.Capture = nil, nil
		}
		ids = append(ids, h.Event.ID)
		s.Hit(h)
	}
	s.Close()
	r := reader(t, dir)
	seven := uint32(7)
	for name, tt := range map[string]struct {
		f    Filter
		want []int
	}{
		"all":          {Filter{}, []int{0, 1, 2, 3, 4, 5}},
		"user":         {Filter{UID: &seven}, []int{0, 2, 4}},
		"rule":         {Filter{Rule: "c"}, []int{2, 5}},
		"user + rule":  {Filter{UID: &seven, Rule: "c"}, []int{2}},
		"capture":      {Filter{Capture: "C"}, []int{0, 1, 2, 3, 4}},
		"last":         {Filter{Last: 2}, []int{4, 5}},
		"since":        {Filter{Since: time.Now().Add(-time.Minute)}, []int{0, 1, 2, 3, 4, 5}},
		"since future": {Filter{Since: time.Now().Add(time.Minute)}, nil},
		"injection":    {Filter{Rule: "a' OR '1'='1"}, nil},
	} {
		var got, want []string
		for _, h := range all(t, r.Hits(tt.f)) {
			got = append(got, h.Event.ID)
		}
		for _, i := range tt.want {
			want = append(want, ids[i])
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", name, d)
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
		if info.Mode().Perm()&0o077 != 0 && !strings.HasPrefix(e.Name(), catalogueName) { // SQLite's are by umask
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
	if _, err := Open(dir, logs); err == nil || !strings.Contains(err.Error(), "another culprit") {
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
	running, ended := aCapture(event.StateDraining), aCapture(event.StateEnded)
	s.Capture(running)
	s.Capture(ended)
	tr := aTrace(s, t, running.Event.ID, "H", event.StateRunning)
	s.Trace(tr)
	s.Close()

	open(t, dir).Close()
	open(t, dir).Close() // it is marked once
	r := reader(t, dir)
	for _, c := range all(t, r.Captures(Filter{})) {
		want := map[string]string{running.Event.ID: event.StateLost, ended.Event.ID: event.StateEnded}[c.Event.ID]
		if c.Culprit.State != want {
			t.Errorf("capture %s is %s, want %s", c.Event.ID, c.Culprit.State, want)
		}
	}
	got := all(t, r.Traces(Filter{}))[0]
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

func TestNothingThere(t *testing.T) {
	t.Parallel()
	if _, err := OpenReader(t.TempDir()); err == nil || !strings.Contains(err.Error(), "has culprit run") {
		t.Errorf("got %v", err)
	}
	dir := t.TempDir()
	os.WriteFile(filepath.Join(dir, catalogueName), []byte("this is no data base at all, not even nearly"), 0o600)
	if _, err := OpenReader(dir); err == nil || !strings.Contains(err.Error(), catalogueName) {
		t.Errorf("got %v", err)
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
			c := aCapture(event.StateEnded)
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
			file := filepath.Join(dir, catalogueName)
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
			for _, tr := range all(t, r.Traces(Filter{})) {
				ids[tr.Event.ID] = tr.Culprit.State == event.StateLost
			}
			if !ids[plain.Event.ID] || !ids[compressed.Event.ID] || len(ids) != 2 {
				t.Errorf("the traces are %v, want %s and %s", ids, plain.Event.ID, compressed.Event.ID)
			}
			aside, _ := filepath.Glob(filepath.Join(dir, catalogueName+".damaged-*"))
			var kept []byte
			if len(aside) > 0 {
				kept, _ = os.ReadFile(aside[0])
			}
			if !bytes.Equal(kept, bad) {
				t.Errorf("what is kept aside is %v, %d bytes, want the %d that were there", aside, len(kept), len(bad))
			}
			if ls := all(t, r.Losses(Filter{})); len(ls) != 1 || !strings.Contains(words.Loss(ls[0].Culprit), "damaged") {
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
	if ls := all(t, reader(t, dir).Losses(Filter{})); len(ls) != 0 {
		t.Errorf("after good ends: %+v", ls)
	}
	if err := os.WriteFile(filepath.Join(dir, "lock"), []byte("812\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if ls := all(t, reader(t, dir).Losses(Filter{})); len(ls) != 1 || !strings.Contains(words.Loss(ls[0].Culprit), "culprit was killed") {
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
				s.Hit(aHit("7", "a"))
			}
		})
	}
	wg.Go(func() {
		for range 20 {
			for _, err := range r.Hits(Filter{Last: 10}) {
				if err != nil {
					t.Error(err)
				}
			}
		}
	})
	wg.Wait()
	s.Close()
	if n := len(all(t, r.Hits(Filter{}))); n != writers*each {
		t.Errorf("%d hits, want %d", n, writers*each)
	}
}

func BenchmarkHits(b *testing.B) {
	s := open(b, b.TempDir())
	h := aHit("7", "a")
	b.ReportAllocs()
	for b.Loop() {
		c := *h
		c.Event.ID = event.NewID()
		s.queue <- &c
	}
	s.Close()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "hits/s")
}
