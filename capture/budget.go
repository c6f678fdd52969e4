package capture

import (
	"time"

	"culprit/internal/config"
)

// budget is how many processes a campaign may trace. Hits that reach the threshold of
// the next level allow more.
type budget struct {
	levels  []config.Level
	level   int // index into levels
	started int // straces started, those that did not attach not counted
}

// raise sets the level that so many hits call for, and reports whether it is a higher one.
func (b *budget) raise(hits int) (raised bool) {
	for b.level+1 < len(b.levels) && hits >= b.levels[b.level+1].Hits {
		b.level++
		raised = true
	}
	return raised
}

// current returns the level in force.
func (b *budget) current() config.Level { return b.levels[b.level] }

// usedUp reports whether the level allows no more processes.
func (b *budget) usedUp() bool { return b.started >= b.current().Processes }

// exhausted reports whether no hit can allow more processes.
func (b *budget) exhausted() bool { return b.usedUp() && b.level == len(b.levels)-1 }

// window is the time in which a campaign traces.
type window struct {
	deadline time.Time     // when nothing new is traced any more; hits move it
	linger   time.Duration // how long straces may then go on
}

// isUp reports whether nothing new is traced any more.
func (w window) isUp(now time.Time) bool { return !now.Before(w.deadline) }

// isOver reports whether straces have to let go.
func (w window) isOver(now time.Time) bool { return !now.Before(w.deadline.Add(w.linger)) }

// next is when one of these changes, or the last time when one did.
func (w window) next(now time.Time) time.Time {
	if w.isUp(now) {
		return w.deadline.Add(w.linger)
	}
	return w.deadline
}
