package evidence

import (
	"context"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/oklog/ulid/v2"
	"golang.org/x/sys/unix"

	"culprit/evidence/tracefile"
	"culprit/internal/event"
	"culprit/internal/testkit"
	"culprit/internal/words"
)

// idAt makes an id of that time.
func idAt(t time.Time) string {
	id := ulid.Make()
	id.SetTime(uint64(t.UnixMilli()))
	return id.String()
}

func TestPlan(t *testing.T) {
	t.Parallel()
	// Traces are given as "HOURS-SIZE", how old and how large they are, and with o for
	// open, r for of a running capture, p for proven.
	now := time.Now()
	anything := Bounds{Keep: 1000 * time.Hour, MaxBytes: math.MaxInt64}
	bounded := func(change func(*Bounds)) Bounds {
		b := anything
		change(&b)
		return b
	}
	for _, tt := range []struct {
		name   string
		b      Bounds
		u      usage
		traces string
		want   string
	}{
		{"nothing", anything, usage{}, "", ""},
		{"enough", anything, usage{}, "1-5 900-5", ""},
		{"age", bounded(func(b *Bounds) { b.Keep = 24 * time.Hour }), usage{}, "1-1 26-1 30-1 27-1p 40-1r 40-1o", "30-1:keep 26-1:keep 27-1p:keep"},
		{"age in steps", bounded(func(b *Bounds) { b.Keep = 48 * time.Hour }), usage{}, "48-1 50-1", "50-1:keep"},
		{"size", bounded(func(b *Bounds) { b.MaxBytes = 10 }), usage{}, "1-3 2-3 4-3 3-3", "4-3:max_bytes"},
		{"size, proven last", bounded(func(b *Bounds) { b.MaxBytes = 5 }), usage{}, "1-3 2-3 9-3p 8-3p", "2-3:max_bytes 1-3:max_bytes 9-3p:max_bytes"},
		{"size with the catalogue", bounded(func(b *Bounds) { b.MaxBytes = 10 }), usage{catalogue: 5}, "1-3 2-3", "2-3:max_bytes"},
		{"what is running counts and stays", bounded(func(b *Bounds) { b.MaxBytes = 5 }), usage{}, "9-5r 8-5o 1-1", "1-1:max_bytes"},
		{"age before size", bounded(func(b *Bounds) { b.Keep, b.MaxBytes = 24*time.Hour, 6 }), usage{}, "1-3 2-3 99-3p", "99-3p:keep"},
		{"free", bounded(func(b *Bounds) { b.MinFree = 10 }), usage{free: 5}, "1-3 2-3 3-3", "3-3:min_free 2-3:min_free"},
		{"free spares proofs", bounded(func(b *Bounds) { b.MinFree = 10 }), usage{}, "1-3 2-3p", "1-3:min_free"},
		{"size, then free", bounded(func(b *Bounds) { b.MinFree, b.MaxBytes = 6, 6 }), usage{}, "1-3 2-3 3-3", "3-3:max_bytes 2-3:min_free"},
	} {
		var traces []stored
		for _, s := range strings.Fields(tt.traces) {
			var hours int
			st := stored{name: s, open: strings.HasSuffix(s, "o"), running: strings.HasSuffix(s, "r"), proven: strings.HasSuffix(s, "p")}
			fmt.Sscanf(s, "%d-%d", &hours, &st.size)
			st.id = ulid.MustParse(idAt(now.Add(-time.Duration(hours) * time.Hour)))
			traces = append(traces, st)
		}
		var got []string
		short := map[event.RemovedCode]string{event.RemovedKeep: "keep", event.RemovedMaxBytes: "max_bytes", event.RemovedMinFree: "min_free"}
		for _, r := range plan(tt.b, now, tt.u, traces) {
			got = append(got, r.Name+":"+short[r.Why])
		}
		if d := cmp.Diff(tt.want, strings.Join(got, " ")); d != "" {
			t.Errorf("%s: %s", tt.name, d)
		}
	}
}

// history is an evidence directory with captures of the past. They are written past
// the store's queue, so that they are there at once.
type history struct {
	*Store
	t testing.TB
}

func newHistory(t testing.TB, dir string) history { return history{open(t, dir), t} }

// capture records one that started so long ago, with traces of 64 KiB that do not
// compress well, and returns it and them.
func (h history) capture(age time.Duration, state string, states ...string) (event.Capture, []event.Trace) {
	h.t.Helper()
	c := aCapture(state)
	c.Event.ID = idAt(time.Now().Add(-age))
	h.exec(putCapture, c.Event.ID, nil, 7, state, document(c))
	var traces []event.Trace
	for i, state := range states {
		tr := event.Trace{
			Event: event.Meta{ID: idAt(time.Now().Add(-age + time.Duration(i)*time.Second))},
			User:  event.User{ID: "7"}, Process: event.Process{PID: 812 + i, Name: "php"},
			Culprit: event.TraceDetail{Capture: event.Reference{ID: c.Event.ID}, State: state},
		}
		f, err := h.dir.create(filepath.Join(tracesDir, c.Event.ID), &tr)
		if err != nil {
			h.t.Fatal(err)
		}
		for n := range 64 << 10 / 128 {
			fmt.Fprintf(f, "%0127d\n", uint64(n+i)*0x9e3779b97f4a7c15)
		}
		f.Close()
		h.exec(putTrace, tr.Event.ID, nil, 7, c.Event.ID, nil, state, document(tr))
		traces = append(traces, tr)
	}
	return c, traces
}

// hits records hits.
func (h history) hits(hits ...*event.Hit) {
	h.t.Helper()
	tx, err := h.db.Begin()
	if err != nil {
		h.t.Fatal(err)
	}
	for _, hit := range hits {
		if _, err := tx.Exec(insertHit, hit.Event.ID, hit.Rule.Name, 7, nil, 1, document(hit), hit.Packet); err != nil {
			h.t.Fatal(err)
		}
	}
	if err := tx.Commit(); err != nil {
		h.t.Fatal(err)
	}
}

func (h history) prove(tr event.Trace, hit string) {
	h.t.Helper()
	h.exec("INSERT INTO proofs (id, capture, trace, hit, doc) VALUES (?, ?, ?, ?, '{}')", event.NewID(), tr.Culprit.Capture.ID, tr.Event.ID, hit)
}

func (h history) exec(query string, args ...any) {
	h.t.Helper()
	if _, err := h.db.Exec(query, args...); err != nil {
		h.t.Fatal(err)
	}
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

func sweep(t testing.TB, k *Keeper) Report {
	t.Helper()
	r, err := k.sweep(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func lost(t testing.TB, dir string) map[string]uint64 {
	count := map[string]uint64{}
	for _, l := range all(t, reader(t, dir).Losses(Filter{})) {
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
	defer h.Close()
	_, running := h.capture(time.Hour, event.StateRunning, event.StateRunning, event.StateEnded)
	_, ended := h.capture(2*time.Hour, event.StateEnded, event.StateEnded, event.StateLost)
	unrecorded := event.Trace{Event: event.Meta{ID: event.NewID()}}
	f, err := h.dir.create(filepath.Join(tracesDir, event.NewID()), &unrecorded)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	os.WriteFile(ended[1].File.Path+tracefile.Unfinished, []byte("half"), 0o600)

	plain := generous
	plain.Compress = false
	if r := sweep(t, h.Keeper(plain)); r.Compressed != 0 || forms(ended[0]) != "plain" || forms(ended[1]) != "plain" {
		t.Errorf("%+v, %s, %s", r, forms(ended[0]), forms(ended[1]))
	}
	k := h.Keeper(generous)
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
	if l := lost(t, dir); len(l) != 0 {
		t.Errorf("lost %v", l)
	}
}

func TestSweepRemoves(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h := newHistory(t, dir)
	defer h.Close()
	c, oldest := h.capture(50*time.Hour, event.StateEnded, event.StateEnded, event.StateEnded)
	_, newest := h.capture(time.Hour, event.StateEnded, event.StateEnded)
	_, running := h.capture(60*time.Hour, event.StateRunning, event.StateEnded)
	ancient, ancients := h.capture(1000*time.Hour, event.StateEnded, event.StateEnded)
	oldHit, newHit := aHit("7", "a"), aHit("7", "a")
	oldHit.Event.ID = idAt(time.Now().Add(-1000 * time.Hour))
	h.hits(oldHit, newHit)
	packets := filepath.Join(filepath.Dir(ancients[0].File.Path), packetsName)
	os.WriteFile(packets, []byte("packets"), 0o600)
	os.WriteFile(packets+".tmp", []byte("half"), 0o600)
	h.prove(oldest[0], newHit.Event.ID)

	b := generous
	b.Compress = false
	catalogue, err := catalogueSize(h.db)
	if err != nil {
		t.Fatal(err)
	}
	// Of 64 KiB each, three fit: the running, the newest, and the proven.
	b.MaxBytes = catalogue + 3*64<<10 + 32<<10
	k := h.Keeper(b)
	preview, err := k.preview()
	if err != nil {
		t.Fatal(err)
	}
	if preview.Expired["traces"] != 1 || preview.Expired["hits"] != 1 || preview.Expired["captures"] != 1 {
		t.Errorf("it would remove %v", preview.Expired)
	}
	r := sweep(t, k)
	var got []string
	for _, v := range r.Removed {
		got = append(got, v.ID+" "+string(v.Why))
	}
	want := []string{ancient.Event.ID + " keep", ancients[0].Event.ID + " keep", oldest[1].Event.ID + " max_bytes"}
	if d := cmp.Diff(want, got); d != "" {
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
	rd := reader(t, dir)
	if _, err := rd.Find(ancient.Event.ID); err == nil {
		t.Error("an old capture is there")
	}
	if n := len(all(t, rd.Hits(Filter{}))); n != 1 {
		t.Errorf("%d hits, want 1", n)
	}
	if n := len(all(t, rd.Traces(Filter{Capture: c.Event.ID}))); n != 2 {
		t.Errorf("%d traces of the old capture, want 2", n)
	}
	var why string
	if err := h.db.QueryRow("SELECT json_extract(doc, '$.culprit.removed') FROM traces WHERE id = ?", oldest[1].Event.ID).Scan(&why); err != nil || why != `{"code":"max_bytes"}` {
		t.Errorf("why %q, %v", why, err)
	}
	wantLost := map[string]uint64{
		"packet files removed: it was older than evidence.keep":                1,
		"trace files removed: it was older than evidence.keep":                 1,
		"trace files removed: the evidence was larger than evidence.max_bytes": 1,
		"hits removed from the catalogue: older than evidence.keep":            1,
		"captures removed from the catalogue: older than evidence.keep":        1,
		"traces removed from the catalogue: older than evidence.keep":          1,
	}
	if d := cmp.Diff(wantLost, lost(t, dir)); d != "" {
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
	defer h.Close()
	_, traces := h.capture(time.Hour, event.StateRunning, event.StateEnded)
	proven := aHit("7", "a")
	many := []*event.Hit{proven}
	for range 20_000 {
		many = append(many, aHit("7", "a"))
	}
	last := many[len(many)-1]
	h.hits(many...)
	h.prove(traces[0], proven.Event.ID)
	before, err := catalogueSize(h.db)
	if err != nil {
		t.Fatal(err)
	}
	b := generous
	b.MaxBytes = before // so half of it is too much
	r := sweep(t, h.Keeper(b))
	after, err := catalogueSize(h.db)
	if err != nil {
		t.Fatal(err)
	}
	if after > before/2 || after < before/4 {
		t.Errorf("the catalogue shrank from %d to %d bytes", before, after)
	}
	rd := reader(t, dir)
	for _, id := range []string{proven.Event.ID, last.Event.ID, traces[0].Event.ID} {
		if _, err := rd.Find(id); err != nil {
			t.Error(err)
		}
	}
	if n := lost(t, dir)["hits removed from the catalogue: it was larger than half of evidence.max_bytes"]; int64(n) != r.Expired["hits"] || n == 0 {
		t.Errorf("%d lost, %d removed", n, r.Expired["hits"])
	}
}

// A program that is traced and sends without end fills the catalogue with proofs: they
// go, but not the first of a trace, and no trace pays for them.
func TestSweepShrinksProofs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h := newHistory(t, dir)
	defer h.Close()
	_, traces := h.capture(time.Hour, event.StateEnded, event.StateEnded)
	var many []*event.Hit
	for range 10_000 {
		many = append(many, aHit("7", "a"))
	}
	h.hits(many...)
	for _, hit := range many {
		h.prove(traces[0], hit.Event.ID)
	}
	before, err := catalogueSize(h.db)
	if err != nil {
		t.Fatal(err)
	}
	b := generous
	b.MaxBytes = before / 2
	r := sweep(t, h.Keeper(b))
	after, err := catalogueSize(h.db)
	if err != nil {
		t.Fatal(err)
	}
	if after > before/4 || r.Expired["proofs"] == 0 || len(r.Removed) != 0 {
		t.Errorf("the catalogue shrank from %d to %d bytes: %+v", before, after, r)
	}
	if _, err := reader(t, dir).Find(many[0].Event.ID); err != nil {
		t.Errorf("the first proven hit: %v", err)
	}
}

// Files that are not ours stay where they are, whatever their names.
func TestSweepHostile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h := newHistory(t, dir)
	defer h.Close()
	_, traces := h.capture(1000*time.Hour, event.StateEnded, event.StateEnded)
	outside := filepath.Join(t.TempDir(), "812-php-"+traces[0].Event.ID+".strace")
	if err := os.WriteFile(outside, []byte("theirs"), 0o600); err != nil {
		t.Fatal(err)
	}
	in := filepath.Dir(traces[0].File.Path)
	left := []string{
		filepath.Join(in, "notes.txt"),
		filepath.Join(in, "1-\n-"+idAt(time.Now())+".strace.txt"),
		filepath.Join(in, "1-link-"+idAt(time.Now().Add(-2000*time.Hour))+".strace"),
		filepath.Join(dir, tracesDir, "link"),
		filepath.Join(dir, tracesDir, "file"),
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
	if r := sweep(t, h.Keeper(generous)); len(r.Removed) != 1 || r.Removed[0].ID != traces[0].Event.ID {
		t.Errorf("%+v", r)
	}
	for _, name := range append(left, outside) {
		if _, err := os.Lstat(name); err != nil {
			t.Error(err)
		}
	}
}

// What cannot be noted in the catalogue is noted later.
func TestSweepTellsLater(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h := newHistory(t, dir)
	defer h.Close()
	_, traces := h.capture(50*time.Hour, event.StateEnded, event.StateEnded)
	b := generous
	b.MaxBytes = 1
	k := h.Keeper(b)
	h.exec("PRAGMA query_only = 1")
	if r, err := k.sweep(t.Context()); err == nil || len(r.Removed) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	h.exec("PRAGMA query_only = 0")
	sweep(t, k)
	if n := lost(t, dir)["trace files removed: the evidence was larger than evidence.max_bytes"]; n != 1 || forms(traces[0]) != "" {
		t.Errorf("%d lost, file %q", n, forms(traces[0]))
	}
}

func TestPrune(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := Prune(t.Context(), dir, generous, false, logs); err == nil || !strings.Contains(err.Error(), "has culprit run") {
		t.Errorf("without a catalogue: %v", err)
	}
	h := newHistory(t, dir)
	_, old := h.capture(1000*time.Hour, event.StateEnded, event.StateEnded)
	_, recent := h.capture(time.Hour, event.StateEnded, event.StateEnded)
	if _, err := Prune(t.Context(), dir, generous, false, logs); err == nil || !strings.Contains(err.Error(), "--dry-run") {
		t.Errorf("beside a daemon: %v", err)
	}
	dry := func(when string) {
		r, err := Prune(t.Context(), dir, generous, true, logs)
		if err != nil || len(r.Removed) != 1 || r.Compressed != 2 || r.Expired["traces"] != 1 {
			t.Errorf("dry run %s a daemon: %+v, %v", when, r, err)
		}
		if forms(old[0]) != "plain" || forms(recent[0]) != "plain" {
			t.Errorf("a dry run %s a daemon did something", when)
		}
	}
	dry("beside")
	h.Close()
	dry("after")
	r, err := Prune(t.Context(), dir, generous, false, logs)
	if err != nil || len(r.Removed) != 1 || forms(old[0]) != "" || forms(recent[0]) != "zst" {
		t.Errorf("%+v, %v", r, err)
	}
}

// smallDisk makes a disk of 8 MiB in a mount namespace: it runs the test again in a
// process of its own, as SQLite opens its files on any thread. In the first process it
// reports that this is done.
func smallDisk(t *testing.T) (dir string, done bool) {
	t.Helper()
	testkit.Root(t)
	const inside = "CULPRIT_TEST_SMALL_DISK"
	dir = t.TempDir()
	if os.Getenv(inside) != "" {
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=8m,mode=0700"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
		return dir, false
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS, Pdeathsig: unix.SIGKILL}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("in a mount namespace: %v\n%s", err, out)
	}
	return dir, true
}

// On a disk that is too full the oldest traces go until there is room; if that does
// not help, no trace may be started.
func TestMinFree(t *testing.T) {
	t.Parallel()
	dir, done := smallDisk(t)
	if done {
		return
	}
	h := newHistory(t, dir)
	defer h.Close()
	_, old := h.capture(2*time.Hour, event.StateEnded, event.StateEnded, event.StateEnded)
	_, recent := h.capture(time.Hour, event.StateEnded, event.StateEnded, event.StateEnded)
	h.prove(old[0], "H")

	b := generous
	k := h.Keeper(b)
	free, err := k.free()
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
	defer h.Close()
	const captures, each = 20, 500
	for i := range captures {
		c := idAt(time.Now().Add(-time.Duration(i) * time.Minute))
		os.MkdirAll(filepath.Join(dir, tracesDir, c), 0o700)
		for n := range each {
			name := fmt.Sprintf("%d-php-%s.strace%s", n, event.NewID(), tracefile.Suffix)
			if err := os.WriteFile(filepath.Join(dir, tracesDir, c, name), []byte("x"), 0o600); err != nil {
				b.Fatal(err)
			}
		}
	}
	k := h.Keeper(generous)
	for b.Loop() {
		sweep(b, k)
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*captures*each), "µs/trace")
}
