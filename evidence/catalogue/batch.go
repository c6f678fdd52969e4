package catalogue

import (
	"maps"
	"slices"

	"culprit/internal/event"
)

// A Batch holds what one transaction writes. It is bounded, and counts what it has no room for.
// Of each capture and trace it keeps the last state. It does not change the documents, which
// others read too.
type Batch struct {
	details
	captures map[string]event.Capture
	traces   map[string]event.Trace
	losses   []event.Loss
	without  map[event.LossCode]uint64 // what there was no room for; each is written as a loss
}

// details are what is dropped if it cannot be written.
type details struct {
	hits     []*event.Hit
	repeats  []repeat
	programs []event.Program
	proofs   []event.Proof
	// snapshots are few, and large: some 40 KB each.
	snapshots []event.Snapshot
}

func (d *details) count() int {
	return len(d.hits) + len(d.repeats) + len(d.programs) + len(d.proofs) + len(d.snapshots)
}

// repeat says how often the packet of a hit was seen.
type repeat struct {
	hit   string
	count int
}

// Bounds of a batch.
const (
	maxDetails   = 40_000 // more than a burst that fills nflog.queue by default
	maxSnapshots = 500
	maxStates    = 10_000 // captures and traces
	maxLosses    = 1000   // kinds of losses, once there are maxDetails of them
)

// NewBatch makes an empty batch.
func NewBatch() *Batch {
	return &Batch{captures: map[string]event.Capture{}, traces: map[string]event.Trace{}, without: map[event.LossCode]uint64{}}
}

// Hit adds a hit.
func (b *Batch) Hit(h *event.Hit) {
	if b.room() {
		b.hits = append(b.hits, h)
	}
}

// Repeated records how often the packet of a hit was seen.
func (b *Batch) Repeated(hit string, count int) {
	if b.room() {
		b.repeats = append(b.repeats, repeat{hit, count})
	}
}

// Program adds a program.
func (b *Batch) Program(p event.Program) {
	if b.room() {
		b.programs = append(b.programs, p)
	}
}

// Proven returns the captures of which the batch has proofs.
func (b *Batch) Proven() []string {
	captures := map[string]bool{}
	for _, p := range b.proofs {
		captures[p.Culprit.Capture.ID] = true
	}
	return slices.Collect(maps.Keys(captures))
}

// Proof adds a proof.
func (b *Batch) Proof(p event.Proof) {
	if b.room() {
		b.proofs = append(b.proofs, p)
	}
}

// Snapshot adds a snapshot, or what is known of it now.
func (b *Batch) Snapshot(s event.Snapshot) {
	if len(b.snapshots) >= maxSnapshots {
		b.without[event.LossUnrecorded]++
	} else if b.room() {
		b.snapshots = append(b.snapshots, s)
	}
}

func (b *Batch) room() bool {
	if b.count() < maxDetails {
		return true
	}
	b.without[event.LossUnrecorded]++
	return false
}

// Capture adds a new or changed capture.
func (b *Batch) Capture(c event.Capture) { putState(b, b.captures, c.Event.ID, c) }

// Trace adds a new or changed trace.
func (b *Batch) Trace(t event.Trace) { putState(b, b.traces, t.Event.ID, t) }

func putState[T any](b *Batch, states map[string]T, id string, state T) {
	if _, known := states[id]; !known && len(b.captures)+len(b.traces) >= maxStates {
		b.without[event.LossUnrecordedEnds]++
		return
	}
	states[id] = state
}

// Loss adds a loss. When there are too many, losses of the same kind are added up.
func (b *Batch) Loss(l event.Loss) {
	if len(b.losses) >= maxDetails {
		b.losses = SumLosses(b.losses)
	}
	b.losses = append(b.losses, l)
}

// Size returns how many changes the batch holds.
func (b *Batch) Size() int {
	return b.count() + len(b.captures) + len(b.traces) + len(b.losses)
}

// Without counts what the writer itself had no room for. It is written as a loss.
func (b *Batch) Without(what event.LossCode, count uint64) { b.without[what] += count }

// Dropped returns how many hits, repeats, programs, proofs and snapshots had no room, in this batch or in
// those that it was kept from.
func (b *Batch) Dropped() uint64 { return b.without[event.LossUnrecorded] }

// Kept returns what to write later of a batch that could not be written: how captures and
// traces ended, and losses. The rest is dropped and counted.
func (b *Batch) Kept() *Batch {
	kept := &Batch{captures: b.captures, traces: b.traces, losses: SumLosses(b.losses), without: maps.Clone(b.without)}
	if n := b.count(); n > 0 {
		kept.without[event.LossUnrecorded] += uint64(n)
	}
	return kept
}

// Append adds a later batch to one that was kept, which has no details.
func (b *Batch) Append(later *Batch) {
	b.details = later.details
	for _, c := range later.captures {
		b.Capture(c)
	}
	for _, t := range later.traces {
		b.Trace(t)
	}
	for _, l := range later.losses {
		b.Loss(l)
	}
	for what, n := range later.without {
		b.without[what] += n
	}
}

// SumLosses adds up losses of the same kind. If there are too many kinds, it adds up the rest.
func SumLosses(losses []event.Loss) []event.Loss {
	var all []event.Loss
	at := map[event.LossDetail]int{}
	for _, l := range losses {
		kind := event.LossDetail{Code: l.Culprit.Code, Detail: l.Culprit.Detail}
		if _, known := at[kind]; !known && len(all) >= maxLosses {
			kind = event.LossDetail{Code: event.LossOther}
			l.Culprit = event.LossDetail{Code: event.LossOther, Count: l.Culprit.Count}
		}
		if i, known := at[kind]; known {
			all[i].Culprit.Count += l.Culprit.Count
		} else {
			at[kind] = len(all)
			all = append(all, l)
		}
	}
	return all
}
