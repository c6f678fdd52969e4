package event

import (
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"
)

// Ids are the order in which things are listed, and how those who look again and again
// know what is new. So none is less than an earlier one, even if the clock is set back.
// Times of their own tell when things were.

// maxAhead bounds how far ids may be ahead of the clock: one that was wrong by years, and is
// set right, must not give its time to all that comes after.
const maxAhead = 24 * time.Hour

// latest is the time of the latest id in milliseconds since 1970. Like the randomness of
// package ulid it is the process's.
var latest atomic.Uint64

// NewID makes the id of a new hit, capture or trace: a ULID, 26 characters that
// sort by time of making. Safe for concurrent use.
func NewID() string { return newID(&latest, time.Now()) }

// NewIDsAfter sees to it that what is made from now on has an id after the given one, which
// an earlier process made before the clock was set back; unless it is a day ahead.
func NewIDsAfter(id string) {
	if u, err := ulid.ParseStrict(id); err == nil {
		after(&latest, u.Time()+1, time.Now())
	}
}

func newID(latest *atomic.Uint64, now time.Time) string {
	return ulid.MustNew(after(latest, ulid.Timestamp(now), now), ulid.DefaultEntropy()).String()
}

// after moves latest on to a time, and returns what it is then.
func after(latest *atomic.Uint64, ms uint64, now time.Time) uint64 {
	bound := ulid.Timestamp(now.Add(maxAhead))
	for {
		last := latest.Load()
		switch {
		case ms > bound, last > ms && last <= bound:
			return last
		case latest.CompareAndSwap(last, ms):
			return ms
		}
	}
}
