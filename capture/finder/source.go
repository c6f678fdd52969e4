package finder

import (
	"errors"
	"log/slog"
	"os"
	"time"

	"culprit/internal/connector"
)

// source is where process events come from: the proc connector, or where that is
// not to be had a ticker for polling /proc. A nil source never has any.
type source struct {
	conn    *connector.Conn
	batches chan batch
	ticker  *time.Ticker
	seen    map[int]bool // PIDs of the last poll
	polled  int
}

// batch is what one read of the connector gave.
type batch struct {
	events  []connector.Event
	overrun bool
}

// gatherFor is how long events gather after some were received: to start a program
// makes four of them, and to be woken for each would slow down all programs of the
// machine.
const gatherFor = time.Millisecond

// listen opens the proc connector, or starts to poll where there is none.
func (f *Finder) listen() *source {
	if f.polling {
		return newPoller()
	}
	conn, err := connector.Open()
	if err != nil {
		f.log.Warn("no proc connector: polling /proc; processes that live less than "+pollEvery.String()+" are missed", "error", err)
		f.polling = true
		return newPoller()
	}
	s := &source{conn: conn, batches: make(chan batch, 16)}
	go s.receive(f.log)
	return s
}

func newPoller() *source { return &source{ticker: time.NewTicker(pollEvery)} }

// receive passes on what the connector tells until it is closed.
func (s *source) receive(log *slog.Logger) {
	defer close(s.batches)
	for {
		events, err := s.conn.Receive()
		switch {
		case err == nil:
			s.batches <- batch{events: events}
			if len(events) < connector.Batch {
				time.Sleep(gatherFor)
			}
		case errors.Is(err, connector.ErrOverrun):
			s.batches <- batch{overrun: true}
		case errors.Is(err, os.ErrClosed):
			return
		default:
			log.Error("the proc connector failed: polling /proc from now on", "error", err)
			s.conn.Close()
			return
		}
	}
}

func (s *source) events() <-chan batch {
	if s == nil {
		return nil
	}
	return s.batches
}

func (s *source) polls() <-chan time.Time {
	if s == nil || s.ticker == nil {
		return nil
	}
	return s.ticker.C
}

// close ends the source and waits for its goroutine.
func (s *source) close() {
	switch {
	case s == nil:
	case s.ticker != nil:
		s.ticker.Stop()
	default:
		s.conn.Close()
		for range s.batches {
		}
	}
}
