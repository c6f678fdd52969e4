package catalogue

import (
	"maps"

	"culprit/internal/event"
)

// A Batch is what one transaction writes. It is bounded, and counts what has no room. Of a
// capture or trace that changed several times the last state counts. The documents, which
// are shared with others, are not changed.
type Batch struct {
	hits     []*event.Hit
	repeats  []repeat
	captures map[string]event.Capture
	traces   map[string]event.Trace
	programs []event.Program
	proofs   []event.Proof
	losses   []event.Loss
	without  map[event.LossCode]uint64 // what the batch had no room for, each a loss that it writes
}

// repeat is how often the packet of a hit was seen.
type repeat struct {
	hit   string
	count int
}

// Bounds of a batch: of the hits, repeats, programs and proofs together, which is more than
// the burst that nflog.queue takes by default; of the captures and traces; and of the kinds
// of losses, once there are as many losses as details can be.
const (
	maxDetails = 40_000
	maxStates  = 10_000
	maxLosses  = 1000
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

// Repeated adds how often the packet of a hit was seen.
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

// Proof adds a proof.
func (b *Batch) Proof(p event.Proof) {
	if b.room() {
		b.proofs = append(b.proofs, p)
	}
}

func (b *Batch) room() bool {
	if b.details() < maxDetails {
		return true
	}
	b.without[event.LossUnrecorded]++
	return false
}

func (b *Batch) details() int {
	return len(b.hits) + len(b.repeats) + len(b.programs) + len(b.proofs)
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

// Loss adds a loss. Of too many, those of the same kind are added up.
func (b *Batch) Loss(l event.Loss) {
	if len(b.losses) >= maxDetails {
		b.losses = SumLosses(b.losses)
	}
	b.losses = append(b.losses, l)
}

// Size is how many changes the batch holds.
func (b *Batch) Size() int {
	return b.details() + len(b.captures) + len(b.traces) + len(b.losses)
}

// Without counts what the writer had no room for: a loss that is written with the batch.
func (b *Batch) Without(what event.LossCode, count uint64) { b.without[what] += count }

// Dropped is how many hits, repeats, programs and proofs had no room, or were in a batch
// before that could not be written.
func (b *Batch) Dropped() uint64 { return b.without[event.LossUnrecorded] }

// Kept is what is kept of a batch that could not be written: how captures and traces ended
// should not be lost, and losses neither. The rest is dropped.
func (b *Batch) Kept() *Batch {
	kept := NewBatch()
	kept.captures, kept.traces, kept.losses = b.captures, b.traces, SumLosses(b.losses)
	maps.Copy(kept.without, b.without)
	if n := b.details(); n > 0 {
		kept.without[event.LossUnrecorded] += uint64(n)
	}
	return kept
}

// Append adds the changes of a later batch.
func (b *Batch) Append(later *Batch) {
	for _, h := range later.hits {
		b.Hit(h)
	}
	for _, r := range later.repeats {
		b.Repeated(r.hit, r.count)
	}
	for _, c := range later.captures {
		b.Capture(c)
	}
	for _, t := range later.traces {
		b.Trace(t)
	}
	for _, p := range later.programs {
		b.Program(p)
	}
	for _, p := range later.proofs {
		b.Proof(p)
	}
	for _, l := range later.losses {
		b.Loss(l)
	}
	for what, n := range later.without {
		b.without[what] += n
	}
}

// SumLosses adds up losses of the same kind, and all that are of too many kinds.
func SumLosses(losses []event.Loss) []event.Loss {
	var all []event.Loss
	at := map[event.LossDetail]int{}
	for _, l := range losses {
		kind := event.LossDetail{Code: l.Culprit.Code, Detail: l.Culprit.Detail}
		if _, known := at[kind]; !known && len(all) >= maxLosses {
			kind = event.LossDetail{Code: event.LossOther}
			l.Culprit = event.LossDetail{Code: event.LossOther, Count: l.Culprit.Count}
		}
		i, known := at[kind]
		if !known {
			at[kind] = len(all)
			all = append(all, l)
			continue
		}
		all[i].Culprit.Count += l.Culprit.Count
	}
	return all
}
