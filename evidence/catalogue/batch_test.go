package catalogue

import (
	"fmt"
	"testing"

	"culprit/evidence/internal/fixture"
	"culprit/internal/event"
)

// What waits for a catalogue that cannot be written does not grow for ever.
func TestKeptIsBounded(t *testing.T) {
	t.Parallel()
	b := NewBatch()
	const rounds, each = 50, 1000
	for range rounds {
		for i := range each {
			c, tr := fixture.Capture(event.StateEnded), event.Trace{Event: event.Meta{ID: event.NewID()}}
			b.Capture(c)
			b.Trace(tr)
			b.Loss(event.NewLoss(event.LossCode(fmt.Sprint("of kind ", i%7)), "", 1))
			b.Loss(event.NewLoss(event.LossCode(event.NewID()), "", 1))
			b.Hit(fixture.Hit("7", "a"))
		}
		b = b.Kept()
		if size := b.Size(); size > maxStates+maxLosses+3 {
			t.Fatalf("%d changes are kept", size)
		}
	}
	count := map[event.LossCode]uint64{}
	var sum uint64
	for _, l := range b.losses {
		count[l.Culprit.Code] += l.Culprit.Count
		sum += l.Culprit.Count
	}
	lost := b.without[event.LossUnrecordedEnds] + uint64(len(b.captures)+len(b.traces))
	if lost != rounds*each*2 || count["of kind 3"] < rounds*each/7-rounds {
		t.Errorf("%d captures and traces, %d losses of one kind", lost, count["of kind 3"])
	}
	if sum != rounds*each*2 {
		t.Errorf("%d other losses, want %d", sum, rounds*each*2)
	}
	if n := b.Dropped(); n != rounds*each {
		t.Errorf("%d hits are counted as lost, want %d", n, rounds*each)
	}
}

// Of a flood a batch takes what it has room for, and counts the rest.
func TestBatchIsBounded(t *testing.T) {
	t.Parallel()
	c, _, done := open(t, t.TempDir(), nil)
	defer done()
	b := NewBatch()
	const more = 7
	ended := fixture.Capture(event.StateRunning)
	b.Capture(ended)
	for i := range maxDetails + more {
		b.Hit(fixture.Hit("7", "a"))
		b.Trace(event.Trace{Event: event.Meta{ID: fmt.Sprint("T", i%(maxStates+more))}})
	}
	ended.Culprit.State = event.StateEnded
	b.Capture(ended) // it has its place
	if b.Dropped() != more || len(b.hits) != maxDetails || b.captures[ended.Event.ID].Culprit.State != event.StateEnded {
		t.Errorf("%d hits are dropped, %d there; the capture is %+v", b.Dropped(), len(b.hits), b.captures[ended.Event.ID])
	}
	b.hits = b.hits[:1] // writing all takes long
	if err := c.Write(b); err != nil {
		t.Fatal(err)
	}
	count := map[event.LossCode]uint64{}
	for _, l := range fixture.All(t, c.Reader().Losses(Filter{})) {
		count[l.Culprit.Code] += l.Culprit.Count
	}
	if count[event.LossUnrecorded] != more || count[event.LossUnrecordedEnds] < more {
		t.Errorf("the losses are %v", count)
	}
}

// Snapshots are large, so few of them may wait. They take no room from hits.
func TestBatchOfSnapshots(t *testing.T) {
	t.Parallel()
	b := NewBatch()
	for range maxSnapshots + 3 {
		b.Snapshot(event.Snapshot{})
	}
	b.Hit(new(event.Hit))
	if len(b.snapshots) != maxSnapshots || len(b.hits) != 1 || b.Dropped() != 3 {
		t.Errorf("%d snapshots and %d hits wait, %d are dropped", len(b.snapshots), len(b.hits), b.Dropped())
	}
	if kept := b.Kept(); kept.Size() != 0 || kept.Dropped() != maxSnapshots+1+3 {
		t.Errorf("kept %d, dropped %d", kept.Size(), kept.Dropped())
	}
}
