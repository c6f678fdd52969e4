package event

import (
	"crypto/rand"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
)

// Ids never go back, whatever the clock does, and do not run far ahead of it.
func TestNewID(t *testing.T) {
	t.Parallel()
	m := newMaker()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var ids []string
	for _, step := range []time.Duration{0, 0, time.Millisecond, -time.Hour, time.Second, -10 * time.Hour, 0, 12 * time.Hour} {
		now = now.Add(step)
		for range 100 {
			ids = append(ids, m.make(now))
		}
	}
	if !slices.IsSorted(ids) || len(slices.Compact(slices.Clone(ids))) != len(ids) {
		t.Error("the ids are not in the order in which they were made, or not all different")
	}
	if at := ulid.MustParse(ids[len(ids)-1]).Timestamp(); !at.Equal(now) {
		t.Errorf("when the clock is past what it was, an id is of %v at %v", at, now)
	}
	now = now.Add(-30 * 365 * maxAhead)
	if at := ulid.MustParse(m.make(now)).Timestamp(); !at.Equal(now) {
		t.Errorf("when the clock was wrong by years, an id is of %v at %v", at, now)
	}
}

// The ids of an earlier process count as well.
func TestNewIDsAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for ahead, want := range map[time.Duration]time.Duration{-time.Hour: 0, time.Hour: time.Hour, 25 * time.Hour: 0} {
		m := newMaker()
		m.after(ulid.MustNew(ulid.Timestamp(now.Add(ahead))-1, rand.Reader).String(), now)
		if at := ulid.MustParse(m.make(now)).Timestamp(); !at.Equal(now.Add(want)) {
			t.Errorf("after one that is %v ahead comes one that is %v ahead, want %v", ahead, at.Sub(now), want)
		}
	}
}

// If several goroutines make ids at the same time, each id is greater than all that existed
// before.
func TestNewIDConcurrently(t *testing.T) {
	t.Parallel()
	m := newMaker()
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var latest struct {
		sync.Mutex
		id string
	}
	var all sync.WaitGroup
	for worker := range 8 {
		all.Go(func() {
			for i := range 2000 {
				latest.Lock()
				before := latest.id
				latest.Unlock()
				id := m.make(start.Add(time.Duration(i+worker) * time.Millisecond / 10))
				latest.Lock()
				if latest.id = max(latest.id, id); id <= before {
					t.Errorf("%s is made after %s", id, before)
				}
				latest.Unlock()
			}
		})
	}
	all.Wait()
}
