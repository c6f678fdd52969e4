package capture

import (
	"time"

	"culprit/internal/event"
)

// forwards remembers who asked what, so that what a local resolver sends on can be
// joined to the hit of the program that asked: a lookup through one is sent twice, by
// the program to the resolver, and by that to its server.
type forwards map[event.Question]asked

// asked is the latest hit that asked a question.
type asked struct {
	hit  string
	time time.Time
}

// forwardWithin is how long after the question a resolver may send it on; it tries a
// server that does not answer several times. maxAsked bounds the memory.
const (
	forwardWithin = 10 * time.Second
	maxAsked      = 4096
)

// ask remembers the question of a program's hit.
func (f forwards) ask(h *event.Hit) {
	if h.DNS == nil {
		return
	}
	if len(f) >= maxAsked {
		for q, a := range f {
			if h.Timestamp.Sub(a.time) > forwardWithin {
				delete(f, q)
			}
		}
	}
	if len(f) >= maxAsked {
		clear(f)
	}
	f[h.DNS.Question] = asked{h.Event.ID, h.Timestamp}
}

// join notes with a resolver's hit from which hit its question is, and says why the
// resolver is not captured.
func (f forwards) join(h *event.Hit, resolver string) *event.NoCapture {
	if h.DNS != nil {
		if a, ok := f[h.DNS.Question]; ok && h.Timestamp.Sub(a.time) <= forwardWithin {
			h.Culprit.ForwardedFrom = &event.Reference{ID: a.hit}
			return &event.NoCapture{Code: event.NoCaptureForwarded, Detail: resolver}
		}
	}
	return &event.NoCapture{Code: event.NoCaptureResolver, Detail: resolver}
}
