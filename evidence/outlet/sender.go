package outlet

import (
	"context"
	"log/slog"
	"time"
)

// A Box keeps the events that wait to be sent out.
type Box interface {
	// News tells when there are more.
	News() <-chan struct{}
	// Events calls take with the events after a sequence number, in order, until there are
	// no more, there were so many, or it returns false.
	Events(ctx context.Context, after uint64, most int, take func(sequence uint64, line string) bool) error
	// Remove removes those up to a sequence number: they have got out.
	Remove(upTo uint64) error
	// Waiting is how many there are.
	Waiting() int64
}

// A Sender sends out the events of a box. Its goroutine owns the outlet.
type Sender struct {
	outlet Outlet
	box    Box
	log    *slog.Logger

	sent, removed uint64 // up to which events were given to the outlet, and removed
	failing       bool
	closing       chan struct{} // closed when nothing more is recorded
	done          chan struct{}
	stop          context.CancelFunc
}

// Bounds of a Sender: how many events, and after how many bytes no more, are read at once;
// how soon sending is tried again, twice as long each time; how soon we look whether what
// was sent has been taken; how long sending may take when culprit stops, and then the
// reading of what was sent.
const (
	sendEvents  = 512
	sendBytes   = 1 << 20
	retryLeast  = time.Second
	retryMost   = time.Minute
	lookAgain   = 100 * time.Millisecond
	sendsLonger = 2 * time.Second
	readsLonger = time.Second
)

// NewSender begins to send. The caller closes the Sender, which closes the outlet.
func NewSender(o Outlet, box Box, log *slog.Logger) *Sender {
	ctx, stop := context.WithCancel(context.Background())
	s := &Sender{outlet: o, box: box, log: log, sent: o.Taken(), closing: make(chan struct{}), done: make(chan struct{}), stop: stop}
	go s.run(ctx)
	return s
}

// Close has what waits sent out, if that does not take too long.
func (s *Sender) Close() {
	defer s.stop()
	close(s.closing)
	defer time.AfterFunc(sendsLonger, s.stop).Stop()
	<-s.done
}

// run sends until nothing more is recorded and nothing waits, or the context ends.
func (s *Sender) run(ctx context.Context) {
	defer close(s.done)
	defer s.end()
	for pause := retryLeast; ctx.Err() == nil; {
		last := isClosed(s.closing) // nothing comes after what is read now
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

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// send sends the next events, and returns how many.
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
	// Without events it tells whether it will take what was sent.
	if err := s.outlet.Send(ctx, events); err != nil || len(events) == 0 {
		return 0, err
	}
	s.sent = events[len(events)-1].Sequence
	return len(events), nil
}

// remove removes what has got out, and reports whether there was something. If that fails
// it is tried again with the next; a culprit that is started meanwhile asks the outlet
// first.
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

// end gives up the outlet.
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
