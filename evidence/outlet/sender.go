package outlet

import (
	"context"
	"log/slog"
	"time"
)

// A Box keeps the events that wait to be sent.
type Box interface {
	// News receives when there are more events.
	News() <-chan struct{}
	// Events calls take with each event after a sequence number, in order: at most that many,
	// and until take returns false.
	Events(ctx context.Context, after uint64, most int, take func(sequence uint64, line string) bool) error
	// Remove removes the events up to a sequence number, as they were sent.
	Remove(upTo uint64) error
	// Waiting returns how many events wait.
	Waiting() int64
}

// A Sender sends the events of a box to an outlet, which its goroutine owns.
type Sender struct {
	outlet Outlet
	box    Box
	log    *slog.Logger

	sent, removed uint64 // the last events that were given to the outlet, and removed from the box
	failing       bool
	closing       chan struct{} // closed when nothing more is recorded
	done          chan struct{}
	stop          context.CancelFunc
}

// Bounds of a Sender.
const (
	sendEvents  = 512                    // events that are read at once
	sendBytes   = 1 << 20                // bytes after which no more are read at once
	retryLeast  = time.Second            // before sending again after an error, doubled each time
	retryMost   = time.Minute            // … but not more
	lookAgain   = 100 * time.Millisecond // before asking again whether what was sent was taken
	sendsLonger = 2 * time.Second        // for sending when culprit stops
	readsLonger = time.Second            // for the outlet to take it then
)

// NewSender starts a Sender. The caller closes it, and it closes the outlet.
func NewSender(o Outlet, box Box, log *slog.Logger) *Sender {
	ctx, stop := context.WithCancel(context.Background())
	s := &Sender{outlet: o, box: box, log: log, sent: o.Taken(), closing: make(chan struct{}), done: make(chan struct{}), stop: stop}
	go s.run(ctx)
	return s
}

// Close sends what waits, unless that takes too long.
func (s *Sender) Close() {
	defer s.stop()
	close(s.closing)
	defer time.AfterFunc(sendsLonger, s.stop).Stop()
	<-s.done
}

// run sends until Close was called and nothing waits, or the context ends.
func (s *Sender) run(ctx context.Context) {
	defer close(s.done)
	defer s.end()
	for pause := retryLeast; ctx.Err() == nil; {
		last := isClosed(s.closing) // no event comes after those that send reads now
		n, err := s.send(ctx)
		if s.remove() {
			if s.failing && err == nil {
				s.log.Info("events are sent out again")
				s.failing = false
			}
			pause = retryLeast
		}
		switch {
		case err != nil && last:
			s.log.Error("events were not sent out", "error", err)
			return
		case err != nil:
			if !s.failing {
				s.log.Error("events cannot be sent out: they wait", "error", err)
			}
			s.failing = true
			s.sent = max(s.removed, s.outlet.Taken())
			select {
			case <-time.After(pause):
			case <-s.ready():
			case <-s.closing:
			}
			pause = min(2*pause, retryMost)
		case n > 0:
		case last:
			return
		default:
			var look <-chan time.Time
			if s.removed < s.sent {
				look = time.After(lookAgain)
			}
			select {
			case <-s.box.News():
			case <-look:
			case <-s.closing:
			}
		}
	}
}

// ready receives when trying again is worth it, if the outlet can tell.
func (s *Sender) ready() <-chan struct{} {
	if w, ok := s.outlet.(Waiter); ok {
		return w.Ready()
	}
	return nil
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// send sends the next events and returns how many.
func (s *Sender) send(ctx context.Context) (int, error) {
	var events []Event
	size := 0
	err := s.box.Events(ctx, s.sent, sendEvents, func(sequence uint64, line string) bool {
		events = append(events, Event{sequence, line})
		size += len(line)
		return size < sendBytes
	})
	if err != nil {
		return 0, err
	}
	if len(events) == 0 && s.removed == s.sent {
		return 0, nil
	}
	// Without events this fails if what was sent will never be taken.
	if err := s.outlet.Send(ctx, events); err != nil || len(events) == 0 {
		return 0, err
	}
	s.sent = events[len(events)-1].Sequence
	return len(events), nil
}

// remove removes what was taken from the box, and reports whether there was something. After a
// failure the next call tries again; a culprit that is started meanwhile asks the outlet first.
func (s *Sender) remove() bool {
	taken := s.outlet.Taken()
	if taken <= s.removed {
		return false
	}
	if err := s.box.Remove(taken); err != nil {
		s.log.Debug("events that were sent out stay in the catalogue for now", "error", err)
		return false
	}
	s.removed = taken
	return true
}

// end closes the outlet.
func (s *Sender) end() {
	ctx, cancel := context.WithTimeout(context.Background(), readsLonger)
	defer cancel()
	if err := s.outlet.Close(ctx); err != nil {
		s.log.Error("events may not have been sent", "error", err)
	}
	s.remove()
	if n := s.box.Waiting(); n > 0 {
		s.log.Warn("events wait to be sent out at the next start", "count", n)
	}
}
