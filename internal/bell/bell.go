// Package bell wakes a goroutine that waits, without waiting for it.
package bell

// A Bell has rung or not, however often. Who waits receives from it.
type Bell chan struct{}

// New makes a Bell that has not rung.
func New() Bell { return make(Bell, 1) }

// Ring wakes who waits, or who waits next. It never blocks. Safe for concurrent use.
func (b Bell) Ring() {
	select {
	case b <- struct{}{}:
	default: // it has rung, and nobody has come yet
	}
}
