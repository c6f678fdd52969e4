package catalogue

import (
	"slices"
	"testing"

	"culprit/evidence/internal/fixture"
	"culprit/internal/event"
)

// Proofs are found by any of their lines, and the nearest from any line on.
func TestProofsAt(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c, _, _ := open(t, dir, nil)
	b := NewBatch()
	tr, other := fixture.Trace("C", "H", event.StateEnded), fixture.Trace("C", "H", event.StateEnded)
	b.Trace(tr)
	b.Trace(other)
	proof := func(trace string, line int64, parts ...int64) {
		p := event.Proof{Event: event.Meta{ID: event.NewID()}, Culprit: event.ProofDetail{
			Capture: event.Reference{ID: "C"}, Hit: event.Reference{ID: event.NewID()}, Trace: event.Reference{ID: trace}, Line: line,
		}}
		for _, l := range parts {
			p.Culprit.Parts = append(p.Culprit.Parts, event.Line{Line: l})
		}
		b.Proof(p)
	}
	proof(tr.Event.ID, 900, 100, 300)
	proof(tr.Event.ID, 9)
	proof(tr.Event.ID, 10)
	proof(tr.Event.ID, 100)
	proof(other.Event.ID, 50)
	if err := c.Write(b); err != nil {
		t.Fatal(err)
	}
	r := reader(t, dir)
	for _, tt := range []struct {
		first, last   int64
		lines         []int64
		before, after int64
	}{
		{1, 8, nil, 0, 9},
		{9, 9, []int64{9}, 0, 10},
		{10, 100, []int64{10, 100, 900}, 9, 900},
		{200, 300, []int64{900}, 100, 900},
		{301, 899, nil, 100, 900},
		{500, 5000, []int64{900}, 100, 0},
		{5000, 6000, nil, 900, 0},
	} {
		proofs, err := r.ProofsAt(tr.Event.ID, tt.first, tt.last)
		if err != nil {
			t.Fatal(err)
		}
		var lines []int64
		for _, p := range proofs {
			lines = append(lines, p.Culprit.Line)
		}
		before, after, err := r.NearestProofs(tr.Event.ID, tt.first, tt.last)
		if err != nil || !slices.Equal(lines, tt.lines) || before != tt.before || after != tt.after {
			t.Errorf("%d to %d: %v, between %d and %d, %v; want %+v", tt.first, tt.last, lines, before, after, err, tt)
		}
	}
	if f, err := r.Find(tr.Event.ID); err != nil || len(f.Trace.Culprit.Proofs) != 4 {
		t.Errorf("found %+v, %v", f.Trace, err)
	}
	if f, err := r.WithoutProofs().Find(tr.Event.ID); err != nil || len(f.Trace.Culprit.Proofs) != 0 {
		t.Errorf("found %+v, %v", f.Trace, err)
	}
}
