package finder

import (
	"errors"
	"log/slog"
	"os"
	"time"

	"culprit/internal/connector"
	"culprit/internal/event"
)

// source is where the finder learns of new processes: the proc connector, or where there is
// none a ticker to poll /proc by. A nil source has no events.
type source struct {
	conn    *connector.Conn
	batches chan batch
	ticker  *time.Ticker
	seen    map[int]bool // PIDs of the last poll
	polled  int
}

// batch is the result of one read of the connector.
type batch struct {
	events  []connector.Event
	overrun bool
}

// gatherFor is how long we let events gather after each read: the start of a program makes
// four of them, and to wake up for each would slow down all programs of the machine.
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

// receive passes on events until the connector is closed.
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

const (
	pollEvery   = 10 * time.Millisecond
	pollAllEach = 50 // polls; then all processes are looked at, as any may have become the UID
)

// poll looks at the processes that were not there the last time, and now and then at all of
// them. A known process that is missing has ended.
func (f *Finder) poll(s *source) {
	scan := Scan{Alive: map[int]bool{}, Began: time.Now()}
	pids, err := f.fs.PIDs()
	if err != nil {
		f.log.Error("cannot list processes", "error", err)
		return
	}
	s.polled++
	all := s.polled%pollAllEach == 0
	for _, pid := range pids {
		scan.Alive[pid] = true
		if all || !s.seen[pid] {
			f.look(pid, event.FoundPoll, anybody)
		}
	}
	s.seen = scan.Alive
	if f.forget(scan.Alive) > 0 {
		f.out.Scanned(scan)
	}
}

// forget drops the known processes that are not alive, and returns their number.
func (f *Finder) forget(alive map[int]bool) (gone int) {
	for pid := range f.known {
		if !alive[pid] {
			delete(f.known, pid)
			gone++
		}
	}
	return gone
}
