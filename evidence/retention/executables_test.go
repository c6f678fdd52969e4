package retention

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"culprit/evidence/catalogue"
	"culprit/evidence/directory"
	"culprit/evidence/internal/fixture"
	"culprit/internal/event"
)

// executable keeps one of some KiB, and records a snapshot that names it, so long ago.
func (h history) executable(kib int, age time.Duration, hit string) (sha256 string) {
	h.t.Helper()
	sha256, file, err := h.dir.KeepExecutable(strings.NewReader(strings.Repeat(hit, kib<<10)[:kib<<10]), 1<<30)
	if err != nil {
		h.t.Fatal(err)
	}
	s := fixture.Snapshot("C", hit, "T"+hit)
	s.Event.ID = fixture.IDAt(time.Now().Add(-age))
	s.Process.Hash, s.Culprit.KeptExecutable = &event.Hash{SHA256: sha256}, &file
	batch := catalogue.NewBatch()
	batch.Snapshot(s)
	h.write(batch)
	return sha256
}

func (h history) kept() (names []string) {
	files, err := os.ReadDir(filepath.Join(h.dir.Path(), directory.Executables))
	if err != nil {
		h.t.Fatal(err)
	}
	for _, f := range files {
		names = append(names, f.Name())
	}
	return names
}

// Copies of executables count, are as old as the latest snapshot that names them, and those of
// proven hits go last. Their snapshots say that they have gone.
func TestSweepExecutables(t *testing.T) {
	t.Parallel()
	h := newHistory(t, t.TempDir())
	old := h.executable(100, 40*24*time.Hour, "A")
	if again := h.executable(100, time.Hour, "A"); again != old {
		t.Fatal("two copies of one executable")
	}
	proven := h.executable(100, 3*time.Hour, "B")
	unproven := h.executable(100, 2*time.Hour, "D")
	tooOld := h.executable(100, 50*24*time.Hour, "E")
	batch := catalogue.NewBatch()
	batch.Proof(event.Proof{Event: event.Meta{ID: event.NewID()}, User: event.User{ID: "7"}, Culprit: event.ProofDetail{
		Capture: event.Reference{ID: "C"}, Hit: event.Reference{ID: "B"}, Trace: event.Reference{ID: "TB"},
	}})
	h.write(batch)
	// One that is being copied, one whose culprit was killed, and what is not ours.
	for name, age := range map[string]time.Duration{"01X.tmp": 0, "01Y.tmp": 2 * time.Hour, "README": 100 * 24 * time.Hour} {
		path := filepath.Join(h.dir.Path(), directory.Executables, name)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		when := time.Now().Add(-age)
		os.Chtimes(path, when, when)
	}
	b := Bounds{Keep: 30 * 24 * time.Hour, MaxBytes: 1 << 40}
	r := sweep(t, h.sweeper(b))
	if len(r.Removed) != 1 || r.Removed[0].executable() != tooOld || r.Removed[0].What() != RemovedExecutable || r.Bytes < 4*100<<10 {
		t.Errorf("removed %+v of %d bytes", r.Removed, r.Bytes)
	}
	want := []string{old, proven, unproven, "01X.tmp", "README"}
	slices.Sort(want)
	if got := h.kept(); !slices.Equal(got, want) {
		t.Errorf("left %q, want %q", got, want)
	}
	var went []string
	for most := int64(350 << 10); most > 0; most -= 100 << 10 {
		b.MaxBytes = most
		for _, one := range sweep(t, h.sweeper(b)).Removed {
			went = append(went, one.executable())
		}
	}
	if !slices.Equal(went, []string{unproven, old, proven}) {
		t.Errorf("removed %q, want %q", went, []string{unproven, old, proven})
	}
	for s, err := range h.catalogue.Reader().Snapshots(catalogue.Filter{}) {
		if err != nil || s.Culprit.Removed == nil || s.Culprit.Removed.Code == "" {
			t.Errorf("a snapshot says %+v, %v", s.Culprit.Removed, err)
		}
	}
	if lost := h.lost(); lost["copies of executables removed: it was older than evidence.keep"] != 1 && len(lost) == 0 {
		t.Errorf("lost %v", lost)
	}
}

// Snapshots are removed from a catalogue that is too large, those of proven hits after all others.
func TestSweepShrinksSnapshots(t *testing.T) {
	t.Parallel()
	h := newHistory(t, t.TempDir())
	batch := catalogue.NewBatch()
	var first string
	for i := range 200 {
		s := fixture.Snapshot("C", "H", "T")
		s.Event.ID = fixture.IDAt(time.Now().Add(-time.Hour + time.Duration(i)*time.Second))
		if i == 0 {
			first = s.Event.ID
			s.Culprit.Hit.ID = "P"
		}
		s.Process.EnvVars = []string{strings.Repeat("x", 10<<10)}
		batch.Snapshot(s)
	}
	batch.Proof(event.Proof{Event: event.Meta{ID: event.NewID()}, User: event.User{ID: "7"}, Culprit: event.ProofDetail{
		Capture: event.Reference{ID: "C"}, Hit: event.Reference{ID: "P"}, Trace: event.Reference{ID: "Q"},
	}})
	h.write(batch)
	r := sweep(t, h.sweeper(Bounds{Keep: 24 * time.Hour, MaxBytes: 2 << 20}))
	left := fixture.All(t, h.catalogue.Reader().Snapshots(catalogue.Filter{}))
	if len(left) == 0 || len(left) > 120 || left[0].Event.ID != first || r.Expired["snapshots"] != int64(200-len(left)) {
		t.Errorf("%d are left, the first %v; expired %v", len(left), left[0].Event.ID == first, r.Expired)
	}
}
