package sensor

import (
	"sync/atomic"

	"culprit/internal/event"
)

// Counts are what the sensor has seen since its start.
type Counts struct {
	Lost     uint64 // packets that found no room in the ring
	Unread   uint64 // records that could not be read
	Unjoined uint64 // records whose packet did not come
	// Unstopped are the packets whose sender was not stopped.
	Unstopped map[event.UnstoppedCode]uint64
}

// counts are written by the goroutine of [Sends], and read by others.
type counts struct {
	unread, unjoined atomic.Uint64
	unstopped        [len(unstopped)]atomic.Uint64
}

// unstopped are the codes of what the program says in recWhyNot.
var unstopped = [...]event.UnstoppedCode{
	notInContext: event.UnstoppedUncertain, notTraced: event.UnstoppedTraced, notSpared: event.UnstoppedSpared,
	notLeased: event.UnstoppedUnleased, notAgain: event.UnstoppedAgain, notOurs: event.UnstoppedForeign, notNoticed: event.UnstoppedParent,
	notTooMany: event.UnstoppedFull, notPossible: event.UnstoppedRefused,
	notDecided: event.UnstoppedUndecided,
}

// whyNot counts why a sender was not stopped; 0: it was, or nobody was to be.
func (c *counts) whyNot(why uint32) {
	if why > 0 && why < uint32(len(unstopped)) {
		c.unstopped[why].Add(1)
	}
}

// Counts returns what has been counted so far.
func (s *Sensor) Counts() Counts {
	n := Counts{Lost: s.Lost(), Unread: s.counts.unread.Load(), Unjoined: s.counts.unjoined.Load(), Unstopped: map[event.UnstoppedCode]uint64{}}
	for why, code := range unstopped {
		if code != "" {
			n.Unstopped[code] = s.counts.unstopped[why].Load()
		}
	}
	return n
}
