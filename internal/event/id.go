package event

import (
	"crypto/rand"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
)

// Ids are the order in which things are listed, and how those who look again and again
// know what is new. So none is less than an earlier one, even if the clock is set back.
// Times of their own tell when things were.

// maxAhead bounds how far ids may be ahead of the clock: one that was wrong by years, and is
// set right, must not give its time to all that comes after.
const maxAhead = 24 * time.Hour

// A maker makes ids. One in the middle of which another was made would not come after it,
// so it makes one at a time.
type maker struct {
	mu      sync.Mutex
	latest  uint64                 // the time of the latest id in milliseconds since 1970
	entropy *ulid.MonotonicEntropy // makes more of each id than of the one before, within a millisecond
}

func newMaker() *maker { return &maker{entropy: ulid.Monotonic(rand.Reader, 0)} }

// ids makes those of this process.
var ids = newMaker()

// NewID makes the id of a new hit, capture or trace: a ULID, 26 characters that
// sort by time of making. Safe for concurrent use.
func NewID() string { return ids.make(time.Now()) }

// NewIDsAfter sees to it that what is made from now on has an id after the given one, which
// an earlier process made before the clock was set back; unless it is a day ahead.
func NewIDsAfter(id string) { ids.after(id, time.Now()) }

func (m *maker) make(now time.Time) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.advance(ulid.Timestamp(now), now)
	return ulid.MustNew(m.latest, m.entropy).String()
}

func (m *maker) after(id string, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if u, err := ulid.ParseStrict(id); err == nil {
		m.advance(u.Time()+1, now)
	}
}

// advance moves latest on to a time, unless that is less, or too far ahead.
func (m *maker) advance(ms uint64, now time.Time) {
	bound := ulid.Timestamp(now.Add(maxAhead))
	if ms <= bound && (ms >= m.latest || m.latest > bound) {
		m.latest = ms
	}
}
