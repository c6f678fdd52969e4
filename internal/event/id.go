package event

import (
	"crypto/rand"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
)

// Ids give the order of lists, and pollers recognise new items by them. So no id is less than
// an earlier one, even if the clock is set back. Timestamps are separate fields.

// maxAhead bounds how far ids may be ahead of the clock. If the clock was wrong by years and is
// corrected, later ids must not keep the wrong time.
const maxAhead = 24 * time.Hour

// An idMaker makes ids, one at a time, so that each comes after all that were made before.
type idMaker struct {
	mu      sync.Mutex
	latest  uint64                 // the time of the latest id, in milliseconds since 1970
	entropy *ulid.MonotonicEntropy // makes each id greater than the one before, within a millisecond
}

func newMaker() *idMaker { return &idMaker{entropy: ulid.Monotonic(rand.Reader, 0)} }

// ids makes the ids of this process.
var ids = newMaker()

// NewID makes the id of a new hit, capture or trace: a ULID, 26 characters that sort by the
// time of making. It is safe for concurrent use.
func NewID() string { return ids.make(time.Now()) }

// NewIDsAfter makes all later ids greater than the given one, which an earlier process may have
// made before the clock was set back. It ignores an id that is more than a day ahead.
func NewIDsAfter(id string) { ids.after(id, time.Now()) }

func (m *idMaker) make(now time.Time) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.advance(ulid.Timestamp(now), now)
	return ulid.MustNew(m.latest, m.entropy).String()
}

func (m *idMaker) after(id string, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if u, err := ulid.ParseStrict(id); err == nil {
		m.advance(u.Time()+1, now)
	}
}

// advance moves latest to ms, unless that goes back or is too far ahead.
func (m *idMaker) advance(ms uint64, now time.Time) {
	bound := ulid.Timestamp(now.Add(maxAhead))
	if ms <= bound && (ms >= m.latest || m.latest > bound) {
		m.latest = ms
	}
}
