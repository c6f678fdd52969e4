package evidence

import (
	"slices"
	"sync/atomic"
)

// Counts are what a Store has done since it was opened.
type Counts struct {
	Waiting  int    // changes that are not written yet, in the queue
	Dropped  uint64 // hits, proofs and programs that could not be written, or not in time
	Failures uint64 // transactions that failed

	Proofs     uint64 // found, with certainty
	Probable   uint64 // … and not with certainty
	Uncompared uint64 // hits and system calls that were not compared with each other

	Unsent int64  // events that wait to be sent out
	Lost   uint64 // events that had no room while too many waited
}

type storeCounts struct{ dropped, failures atomic.Uint64 }

type proverCounts struct{ proofs, probable, uncompared atomic.Uint64 }

func (c *proverCounts) found(probable bool) {
	if probable {
		c.probable.Add(1)
	} else {
		c.proofs.Add(1)
	}
}

// Counts returns what was done until now. Safe for concurrent use; it waits for nothing.
func (s *Store) Counts() Counts {
	c := Counts{
		Waiting: len(s.queue), Dropped: s.counts.dropped.Load(), Failures: s.counts.failures.Load(),
		Proofs: s.prover.counts.proofs.Load(), Probable: s.prover.counts.probable.Load(), Uncompared: s.prover.counts.uncompared.Load(),
	}
	if s.feed != nil {
		c.Unsent, c.Lost = s.feed.box.waiting.Load(), s.feed.box.dropped.Load()
	}
	return c
}

// What files are removed, in one word each.
const (
	RemovedTrace   = "trace"
	RemovedPackets = "packets"
)

// What is what was removed, in one word.
func (r Removal) What() string {
	if r.packets() {
		return RemovedPackets
	}
	return RemovedTrace
}

// Left is how many bytes the evidence takes after what was removed, and Room how many
// are free on the disk then.
func (r Report) Left() (evidence, room int64) {
	evidence, room = r.Bytes, r.Free
	for _, one := range r.Removed {
		evidence, room = evidence-one.Size, room+one.Size
	}
	return evidence, room
}

// Tables are the tables of the catalogue whose rows are removed, see [Report.Expired].
func Tables() []string { return slices.Clone(expiring[:]) }
