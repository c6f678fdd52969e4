// Package outlet sends events out: each is one line of JSON, to a file, to journald or
// to the standard input of a command.
package outlet

import (
	"context"
)

// An Event is a line, with its end, and its sequence number.
type Event struct {
	Sequence uint64
	Line     string
}

// An Outlet is a way out for events. It is owned by one goroutine.
type Outlet interface {
	// Send sends events, in order. Where it fails, or the context ends, some of them
	// may have got out: Taken says which. Without events it fails if those that are not
	// taken yet never will be.
	Send(ctx context.Context, events []Event) error
	// Taken is the sequence number up to which all events have surely got out; before
	// the first Send it is what is known from an earlier culprit, 0 if that is nothing.
	Taken() uint64
	// Close lets what was sent get out, until the context ends. Taken is final then.
	Close(ctx context.Context) error
}
