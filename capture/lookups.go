package capture

import (
	"time"

	"culprit/internal/event"
)

// lookups remembers who asked what. A question to a local resolver is sent twice: by the
// program to the resolver, and by the resolver to its server. The second hit is joined to
// the first.
type lookups map[event.Question]asked

// asked is the latest hit that asked a question.
type asked struct {
	hit  string
	time time.Time
}

// forwardWithin is how long after a question a resolver may forward it: it asks a server
// that does not answer several times. maxAsked bounds the memory.
const (
	forwardWithin = 10 * time.Second
	maxAsked      = 4096
)

// ask remembers the question of a program's hit.
func (l lookups) ask(h *event.Hit) {
	if h.DNS == nil {
		return
	}
	if len(l) >= maxAsked {
		for q, a := range l {
			if h.Timestamp.Sub(a.time) > forwardWithin {
				delete(l, q)
			}
		}
	}
	if len(l) >= maxAsked {
		clear(l)
	}
	l[h.DNS.Question] = asked{h.Event.ID, h.Timestamp}
}

// forwarded says why a resolver that sent a hit is not captured, and whose question it
// forwarded, if that is known.
func (l lookups) forwarded(h *event.Hit, resolver string) (why *event.NoCapture, from *event.Reference) {
	if h.DNS != nil {
		if a, ok := l[h.DNS.Question]; ok && h.Timestamp.Sub(a.time) <= forwardWithin {
			return &event.NoCapture{Code: event.NoCaptureForwarded, Detail: resolver}, &event.Reference{ID: a.hit}
		}
	}
	return &event.NoCapture{Code: event.NoCaptureResolver, Detail: resolver}, nil
}
