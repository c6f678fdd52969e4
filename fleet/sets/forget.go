package sets

import (
	"maps"
	"time"
)

// forgotten is how long after its end a set is forgotten. Until then a clock that was set back does not bring it back.
const forgotten = 30 * 24 * time.Hour

// forget forgets sets that have long been over, and those that the set [EndedName] remembers.
func (b *Book) forget(now time.Time) {
	maps.DeleteFunc(b.entries, func(name string, e *entry) bool {
		return e.inForce == nil && (!e.forever && e.newest.LongOver(now) || e.newest.Version <= b.ended(name))
	})
}

// ended returns up to which version the set of a name was taken back by [EndedName]; 0: it was not.
func (b *Book) ended(name string) uint64 {
	if e := b.entries[EndedName]; e != nil {
		return e.newest.Ended[name]
	}
	return 0
}

// LongOver reports whether the set ended so long ago that hosts forget it.
func (s *Set) LongOver(now time.Time) bool { return s.Expired(now.Add(-forgotten)) }
