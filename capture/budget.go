package capture

import (
	"time"

	"culprit/internal/config"
)

// budget is how many processes a campaign may trace. Enough hits raise the level, which
// allows more.
type budget struct {
	levels  []config.Level
	level   int // index into levels
	started int // straces, without those that did not attach
}

// raise sets the level for a number of hits, and reports whether it has become higher.
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
	deadline time.Time     // from then on nothing new is traced; hits move it
	linger   time.Duration // how long straces may go on after that
}

// isUp reports whether nothing new is traced any more.
func (w window) isUp(now time.Time) bool { return !now.Before(w.deadline) }

// isOver reports whether straces have to detach.
func (w window) isOver(now time.Time) bool { return !now.Before(w.deadline.Add(w.linger)) }

// next is when isUp or isOver changes next, or when isOver did.
func (w window) next(now time.Time) time.Time {
	if w.isUp(now) {
		return w.deadline.Add(w.linger)
	}
	return w.deadline
}
