// Package outlet sends events, each a line of JSON, to a file, to journald, to the standard input
// of a command, or to a collector of OpenTelemetry.
package outlet

import "context"

// An Event is a line, including its newline, and its sequence number.
type Event struct {
	Sequence uint64
	Line     string
}

// An Outlet is a destination of events. It belongs to one goroutine.
type Outlet interface {
	// Send sends events in order. If it fails or the context ends, Taken says which of them
	// were taken. Without events it fails if events that were sent will never be taken.
	Send(ctx context.Context, events []Event) error
	// Taken returns the sequence number up to which the destination surely has all events;
	// before the first Send that is what it got from an earlier culprit, 0 if unknown.
	Taken() uint64
	// Close waits until what was sent is taken, or the context ends. Taken is final then.
	Close(ctx context.Context) error
}

// A Refuser is an Outlet whose destination can refuse events for good. Those count as taken.
type Refuser interface {
	// OnRefused is called before the first Send. f is told how many events were refused, and why;
	// it must not wait.
	OnRefused(f func(events int64, why string))
}

// A Waiter is an Outlet that knows when trying again is worth it.
type Waiter interface {
	// Ready receives when the destination can be reached again.
	Ready() <-chan struct{}
}
