package retention

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"culprit/evidence/catalogue"
	"culprit/evidence/directory"
	"culprit/evidence/internal/fixture"
	"culprit/evidence/tracefile"
	"culprit/internal/event"
	"culprit/internal/words"
)

// history is an evidence directory with captures of the past.
type history struct {
	dir       *directory.Directory
	catalogue *catalogue.Catalogue
	t         testing.TB
}

func newHistory(t testing.TB, dir string) history {
	t.Helper()
	d, err := directory.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	if err := d.Lock(); err != nil {
		t.Fatal(err)
	}
	c, _, err := catalogue.Open(d, nil, fixture.Log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return history{d, c, t}
}

func (h history) sweeper(b Bounds) *Sweeper {
	return New(h.dir, h.catalogue.Reader(), h.catalogue, b, nil, fixture.Log)
}

// capture records one that started so long ago, with traces of 64 KiB that do not
// compress well, and returns it and them.
func (h history) capture(age time.Duration, state string, states ...string) (event.Capture, []event.Trace) {
	h.t.Helper()
	c := fixture.Capture(state)
	c.Event.ID = fixture.IDAt(time.Now().Add(-age))
	batch := catalogue.NewBatch()
	batch.Capture(c)
	var traces []event.Trace
	for i, state := range states {
		tr := event.Trace{
			Event: event.Meta{ID: fixture.IDAt(time.Now().Add(-age + time.Duration(i)*time.Second))},
			User:  event.User{ID: "7"}, Process: event.Process{PID: 812 + i, Name: "php"},
			Culprit: event.TraceDetail{Capture: event.Reference{ID: c.Event.ID}, State: state},
		}
		f, err := h.dir.CreateInCapture(&tr)
		if err != nil {
			h.t.Fatal(err)
		}
		for n := range 64 << 10 / 128 {
			fmt.Fprintf(f, "%0127d\n", uint64(n+i)*0x9e3779b97f4a7c15)
		}
		f.Close()
		batch.Trace(tr)
		traces = append(traces, tr)
	}
	h.write(batch)
	return c, traces
}

// hits records hits.
func (h history) hits(hits ...*event.Hit) {
	h.t.Helper()
	batch := catalogue.NewBatch()
	for _, hit := range hits {
		batch.Hit(hit)
	}
	h.write(batch)
}

// prove records that lines of a trace sent the packets of hits.
func (h history) prove(tr event.Trace, hits ...string) {
	h.t.Helper()
	batch := catalogue.NewBatch()
	for _, hit := range hits {
		batch.Proof(event.Proof{
			Event:   event.Meta{ID: event.NewID()},
			Culprit: event.ProofDetail{Capture: tr.Culprit.Capture, Trace: event.Reference{ID: tr.Event.ID}, Hit: event.Reference{ID: hit}},
		})
	}
	h.write(batch)
}

func (h history) write(batch *catalogue.Batch) {
	h.t.Helper()
	if err := h.catalogue.Write(batch); err != nil {
		h.t.Fatal(err)
	}
}

func (h history) size() int64 {
	h.t.Helper()
	size, err := h.catalogue.Reader().Size()
	if err != nil {
		h.t.Fatal(err)
	}
	return size
}

// forms says which forms of a trace are there: "plain", "zst".
func forms(tr event.Trace) string {
	var all []string
	for what, suffix := range map[string]string{"plain": "", "zst": tracefile.Suffix, "tmp": tracefile.Unfinished} {
		if _, err := os.Lstat(tr.File.Path + suffix); err == nil {
			all = append(all, what)
		}
	}
	return strings.Join(all, " ")
}

func sweep(t testing.TB, s *Sweeper) Report {
	t.Helper()
	r, err := s.Sweep(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// removals says what was removed and why.
func removals(r Report) (all []string) {
	for _, v := range r.Removed {
		all = append(all, v.ID+" "+string(v.Why))
	}
	return all
}

func (h history) lost() map[string]uint64 {
	h.t.Helper()
	count := map[string]uint64{}
	for _, l := range fixture.All(h.t, h.catalogue.Reader().Losses(catalogue.Filter{})) {
		count[words.Loss(l.Culprit)] += l.Culprit.Count
	}
	return count
}

var generous = Bounds{Keep: 720 * time.Hour, MaxBytes: 1 << 40, Compress: true}

// What is closed is compressed when its capture has ended; nothing else is.
func TestSweepCompresses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h := newHistory(t, dir)
	_, running := h.capture(time.Hour, event.StateRunning, event.StateRunning, event.StateEnded)
	_, ended := h.capture(2*time.Hour, event.StateEnded, event.StateEnded, event.StateLost)
	unrecorded := event.Trace{Event: event.Meta{ID: event.NewID()}}
	unrecorded.Culprit.Capture.ID = event.NewID()
	f, err := h.dir.CreateInCapture(&unrecorded)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	os.WriteFile(ended[1].File.Path+tracefile.Unfinished, []byte("half"), 0o600)

	plain := generous
	plain.Compress = false
	if r := sweep(t, h.sweeper(plain)); r.Compressed != 0 || forms(ended[0]) != "plain" || forms(ended[1]) != "plain" {
		t.Errorf("%+v, %s, %s", r, forms(ended[0]), forms(ended[1]))
	}
	k := h.sweeper(generous)
	if r := sweep(t, k); r.Compressed != 2 || len(r.Removed) > 0 {
		t.Errorf("%+v", r)
	}
	for i, tt := range []struct {
		tr   event.Trace
		want string
	}{{running[0], "plain"}, {running[1], "plain"}, {ended[0], "zst"}, {ended[1], "zst"}, {unrecorded, "plain"}} {
		if got := forms(tt.tr); got != tt.want {
			t.Errorf("trace %d: %s, want %s", i, got, tt.want)
		}
	}
	if r := sweep(t, k); r.Compressed != 0 {
		t.Errorf("again %+v", r)
	}
	if l := h.lost(); len(l) != 0 {
		t.Errorf("lost %v", l)
	}
}

func TestSweepRemoves(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h := newHistory(t, dir)
	c, oldest := h.capture(50*time.Hour, event.StateEnded, event.StateEnded, event.StateEnded)
	_, newest := h.capture(time.Hour, event.StateEnded, event.StateEnded)
	_, running := h.capture(60*time.Hour, event.StateRunning, event.StateEnded)
	ancient, ancients := h.capture(1000*time.Hour, event.StateEnded, event.StateEnded)
	oldHit, newHit := fixture.Hit("7", "a"), fixture.Hit("7", "a")
	oldHit.Event.ID = fixture.IDAt(time.Now().Add(-1000 * time.Hour))
	h.hits(oldHit, newHit)
	packets := filepath.Join(filepath.Dir(ancients[0].File.Path), directory.Packets)
	os.WriteFile(packets, []byte("packets"), 0o600)
	os.WriteFile(packets+".tmp", []byte("half"), 0o600)
	h.prove(oldest[0], newHit.Event.ID)

	b := generous
	b.Compress = false
	// Of 64 KiB each, three fit: the running, the newest, and the proven.
	b.MaxBytes = h.size() + 3*64<<10 + 32<<10
	k := h.sweeper(b)
	preview, err := k.preview(b)
	if err != nil {
		t.Fatal(err)
	}
	if preview.Expired["traces"] != 1 || preview.Expired["hits"] != 1 || preview.Expired["captures"] != 1 {
		t.Errorf("it would remove %v", preview.Expired)
	}
	r := sweep(t, k)
	want := []string{ancient.Event.ID + " keep", ancients[0].Event.ID + " keep", oldest[1].Event.ID + " max_bytes"}
	if d := cmp.Diff(want, removals(r)); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(preview.Removed, r.Removed); d != "" {
		t.Errorf("the preview was another: %s", d)
	}
	for i, tr := range []event.Trace{oldest[0], newest[0], running[0]} {
		if forms(tr) != "plain" {
			t.Errorf("trace %d: %q", i, forms(tr))
		}
	}
	if forms(oldest[1]) != "" || forms(ancients[0]) != "" {
		t.Error("removed files are there")
	}
	if _, err := os.Stat(path.Dir(ancients[0].File.Path)); err == nil {
		t.Error("the directory of a capture without traces is there")
	}

	// The catalogue says so.
	rd := h.catalogue.Reader()
	if _, err := rd.Find(ancient.Event.ID); err == nil {
		t.Error("an old capture is there")
	}
	if n := len(fixture.All(t, rd.Hits(catalogue.Filter{}))); n != 1 {
		t.Errorf("%d hits, want 1", n)
	}
	if n := len(fixture.All(t, rd.Traces(catalogue.Filter{Capture: c.Event.ID}))); n != 2 {
		t.Errorf("%d traces of the old capture, want 2", n)
	}
	found, err := rd.Find(oldest[1].Event.ID)
	if tr := found.Trace; tr == nil || *tr.Culprit.Removed != (event.Removed{Code: event.RemovedMaxBytes}) {
		t.Errorf("the removed trace is %+v, %v", found, err)
	}
	wantLost := map[string]uint64{
		"packet files removed: it was older than evidence.keep":                1,
		"trace files removed: it was older than evidence.keep":                 1,
		"trace files removed: the evidence was larger than evidence.max_bytes": 1,
		"hits removed from the catalogue: older than evidence.keep":            1,
		"captures removed from the catalogue: older than evidence.keep":        1,
		"traces removed from the catalogue: older than evidence.keep":          1,
	}
	if d := cmp.Diff(wantLost, h.lost()); d != "" {
		t.Error(d)
	}
	if r := sweep(t, k); len(r.Removed) > 0 || r.Expired["traces"] > 0 {
		t.Errorf("again %+v", r)
	}
}

// A flood of hits does not let the catalogue grow; what is proven stays.
func TestSweepShrinksCatalogue(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h := newHistory(t, dir)
	_, traces := h.capture(time.Hour, event.StateRunning, event.StateEnded)
	proven := fixture.Hit("7", "a")
	many := []*event.Hit{proven}
	for range 20_000 {
		many = append(many, fixture.Hit("7", "a"))
	}
	last := many[len(many)-1]
	h.hits(many...)
	h.prove(traces[0], proven.Event.ID)
	before := h.size()
	b := generous
	b.MaxBytes = before // so half of it is too much
	r := sweep(t, h.sweeper(b))
	after := h.size()
	if after > before/2 || after < before/4 {
		t.Errorf("the catalogue shrank from %d to %d bytes", before, after)
	}
	rd := h.catalogue.Reader()
	for _, id := range []string{proven.Event.ID, last.Event.ID, traces[0].Event.ID} {
		if _, err := rd.Find(id); err != nil {
			t.Error(err)
		}
	}
	if n := h.lost()["hits removed from the catalogue: it was larger than half of evidence.max_bytes"]; int64(n) != r.Expired["hits"] || n == 0 {
		t.Errorf("%d lost, %d removed", n, r.Expired["hits"])
	}
}

// A program that is traced and sends without end fills the catalogue with proofs: they
// go, but not the first of a trace, and no trace pays for them.
func TestSweepShrinksProofs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h := newHistory(t, dir)
	_, traces := h.capture(time.Hour, event.StateEnded, event.StateEnded)
	var many []*event.Hit
	for range 10_000 {
		many = append(many, fixture.Hit("7", "a"))
	}
	h.hits(many...)
	var ids []string
	for _, hit := range many {
		ids = append(ids, hit.Event.ID)
	}
	h.prove(traces[0], ids...)
	before := h.size()
	b := generous
	b.MaxBytes = before / 2
	r := sweep(t, h.sweeper(b))
	after := h.size()
	if after > before/4 || r.Expired["proofs"] == 0 || len(r.Removed) != 0 {
		t.Errorf("the catalogue shrank from %d to %d bytes: %+v", before, after, r)
	}
	if _, err := h.catalogue.Reader().Find(many[0].Event.ID); err != nil {
		t.Errorf("the first proven hit: %v", err)
	}
}

// Files that are not ours stay where they are, whatever their names.
func TestSweepHostile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h := newHistory(t, dir)
	_, traces := h.capture(1000*time.Hour, event.StateEnded, event.StateEnded)
	outside := filepath.Join(t.TempDir(), "812-php-"+traces[0].Event.ID+".strace")
	if err := os.WriteFile(outside, []byte("theirs"), 0o600); err != nil {
		t.Fatal(err)
	}
	in := filepath.Dir(traces[0].File.Path)
	left := []string{
		filepath.Join(in, "notes.txt"),
		filepath.Join(in, "1-\n-"+fixture.IDAt(time.Now())+".strace.txt"),
		filepath.Join(in, "1-link-"+fixture.IDAt(time.Now().Add(-2000*time.Hour))+".strace"),
		filepath.Join(dir, directory.Traces, "link"),
		filepath.Join(dir, directory.Traces, "file"),
	}
	for i, name := range left {
		var err error
		switch i {
		case 2:
			err = os.Symlink(outside, name)
		case 3:
			err = os.Symlink(filepath.Dir(outside), name)
		default:
			err = os.WriteFile(name, nil, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if r := sweep(t, h.sweeper(generous)); len(r.Removed) != 1 || r.Removed[0].ID != traces[0].Event.ID {
		t.Errorf("%+v", r)
	}
	for _, name := range append(left, outside) {
		if _, err := os.Lstat(name); err != nil {
			t.Error(err)
		}
	}
}

// unwritable is a catalogue that cannot take note of removed files while the disk is full.
type unwritable struct {
	*catalogue.Catalogue
	full bool
}

func (u *unwritable) NoteRemoved(ctx context.Context, files []catalogue.RemovedFile) (int, error) {
	if u.full {
		return 0, unix.ENOSPC
	}
	return u.Catalogue.NoteRemoved(ctx, files)
}

// What cannot be noted in the catalogue is noted later.
func TestSweepTellsLater(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h := newHistory(t, dir)
	_, traces := h.capture(50*time.Hour, event.StateEnded, event.StateEnded)
	b := generous
	b.MaxBytes = 1
	rows := &unwritable{Catalogue: h.catalogue, full: true}
	k := New(h.dir, h.catalogue.Reader(), rows, b, nil, fixture.Log)
	if r, err := k.Sweep(t.Context()); err == nil || len(r.Removed) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	rows.full = false
	sweep(t, k)
	if n := h.lost()["trace files removed: the evidence was larger than evidence.max_bytes"]; n != 1 || forms(traces[0]) != "" {
		t.Errorf("%d lost, file %q", n, forms(traces[0]))
	}
}

// On a disk that is too full the oldest traces go until there is room; if that does
// not help, no trace may be started.
func TestMinFree(t *testing.T) {
	t.Parallel()
	dir, done := fixture.SmallDisk(t)
	if done {
		return
	}
	h := newHistory(t, dir)
	_, old := h.capture(2*time.Hour, event.StateEnded, event.StateEnded, event.StateEnded)
	_, recent := h.capture(time.Hour, event.StateEnded, event.StateEnded, event.StateEnded)
	h.prove(old[0], "H")

	b := generous
	k := h.sweeper(b)
	free, err := k.dir.Free()
	if err != nil {
		t.Fatal(err)
	}
	k.SetBounds(Bounds{Keep: k.bounds.Load().Keep, MaxBytes: k.bounds.Load().MaxBytes, MinFree: free + 64<<10 + 1}) // two of them
	if err := k.Room(); err == nil || !strings.Contains(err.Error(), "evidence.min_free") {
		t.Errorf("there is room: %v", err)
	}
	r := sweep(t, k)
	if len(r.Removed) != 2 || r.Compressed != 0 || forms(old[0]) != "plain" || forms(old[1])+forms(recent[0]) != "" || forms(recent[1]) != "plain" {
		t.Errorf("%+v, files %q %q %q %q", r, forms(old[0]), forms(old[1]), forms(recent[0]), forms(recent[1]))
	}

	// Run removes what it can as soon as somebody finds no room, and ends when told.
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	k.SetBounds(Bounds{Keep: k.bounds.Load().Keep, MaxBytes: k.bounds.Load().MaxBytes, MinFree: 1 << 40})
	go func() { k.Run(ctx); close(ended) }()
	for forms(recent[1]) != "" {
		k.Room()
	}
	cancel()
	<-ended
	if forms(old[0]) != "plain" {
		t.Error("a proof was removed for want of disk")
	}
}

// BenchmarkSweep says what one sweep over many traces costs when there is nothing to do.
func BenchmarkSweep(b *testing.B) {
	dir := b.TempDir()
	h := newHistory(b, dir)
	const captures, each = 20, 500
	for i := range captures {
		c := fixture.IDAt(time.Now().Add(-time.Duration(i) * time.Minute))
		os.MkdirAll(filepath.Join(dir, directory.Traces, c), 0o700)
		for n := range each {
			name := fmt.Sprintf("%d-php-%s.strace%s", n, event.NewID(), tracefile.Suffix)
			if err := os.WriteFile(filepath.Join(dir, directory.Traces, c, name), []byte("x"), 0o600); err != nil {
				b.Fatal(err)
			}
		}
	}
	k := h.sweeper(generous)
	for b.Loop() {
		sweep(b, k)
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*captures*each), "µs/trace")
}
