package evidence

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"time"

	"culprit/evidence/outlet"
	"culprit/internal/event"
)

// A feed sends out the events that wait in the outbox. Its goroutine owns the outlet.
type feed struct {
	outlet outlet.Outlet
	box    *outbox
	from   *sql.DB // to read: the writer is not held up
	to     *sql.DB // to remove what has got out
	log    *slog.Logger

	sent, removed uint64 // up to which events were given to the outlet, and removed
	failing       bool
	closing       chan struct{} // closed when nothing more is recorded
	done          chan struct{}
	stop          context.CancelFunc
}

// Bounds of a feed: how many events, and after how many bytes no more, are read at once;
// how soon sending is tried again, twice as long each time; how soon we look whether what
// was sent has been taken; how long sending may take when culprit stops, and then the
// reading of what was sent.
const (
	feedBatch   = 512
	feedBytes   = 1 << 20
	retryLeast  = time.Second
	retryMost   = time.Minute
	lookAgain   = 100 * time.Millisecond
	feedsLonger = 2 * time.Second
	readsLonger = time.Second
)

// start begins to send.
func (f *feed) start() {
	if f == nil {
		return
	}
	var ctx context.Context
	ctx, f.stop = context.WithCancel(context.Background())
	go f.run(ctx)
}

// close has what waits sent out, if that does not take too long.
func (f *feed) close() {
	if f == nil {
		return
	}
	defer f.stop()
	close(f.closing)
	defer time.AfterFunc(feedsLonger, f.stop).Stop()
	<-f.done
}

// feedTo makes the outbox, and the feed that empties it into the outlet. An outlet that
// knows of more events than the catalogue has those of another one: then nobody can say
// whether what waits here got out, and it counts as lost.
func (s *Store) feedTo(o outlet.Outlet) error {
	box := newOutbox(maxWaiting)
	var last uint64
	var waiting, size int64
	err := s.db.QueryRow("SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'events'), 0)").Scan(&last)
	if err == nil {
		err = s.db.QueryRow(waitingSize).Scan(&waiting, &size)
	}
	if err == nil && o.Taken() > last && waiting > 0 {
		if _, err = s.db.Exec("DELETE FROM events"); err == nil {
			s.queue <- event.NewLoss(event.LossUnsent, "", uint64(waiting))
			waiting, size = 0, 0
		}
	}
	if err != nil {
		return fmt.Errorf("look which events wait to be sent out: %w", err)
	}
	box.next = max(last, o.Taken()) + 1
	box.waiting.Store(waiting)
	box.bytes.Store(size)
	s.writer.out = box
	s.feed = &feed{outlet: o, box: box, from: s.reading, to: s.db, log: s.log, sent: o.Taken(), closing: make(chan struct{}), done: make(chan struct{})}
	return nil
}

// run sends until nothing more is recorded and nothing waits, or the context ends.
func (f *feed) run(ctx context.Context) {
	defer close(f.done)
	defer f.end()
	for pause := retryLeast; ctx.Err() == nil; {
		last := isClosed(f.closing) // nothing comes after what is read now
		n, err := f.send(ctx)
		if f.remove() {
			if f.failing && err == nil {
				f.log.Info("events are sent out again")
				f.failing = false
			}
			pause = retryLeast
		}
		switch {
		case err != nil && last:
			f.log.Error("events were not sent out", "error", err)
			return
		case err != nil:
			if !f.failing {
				f.log.Error("events are not sent out: they wait", "error", err)
			}
			f.failing = true
			f.sent = max(f.removed, f.outlet.Taken())
			select {
			case <-time.After(pause):
			case <-f.closing:
			}
			pause = min(2*pause, retryMost)
		case n > 0:
		case last:
			return
		default:
			var look <-chan time.Time
			if f.removed < f.sent {
				look = time.After(lookAgain)
			}
			select {
			case <-f.box.news:
			case <-look:
			case <-f.closing:
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
func (f *feed) send(ctx context.Context) (int, error) {
	rows, err := f.from.QueryContext(ctx, "SELECT sequence, doc FROM events WHERE sequence > ? ORDER BY sequence LIMIT ?", f.sent, feedBatch)
	if err != nil {
		return 0, fmt.Errorf("read the events that wait: %w", err)
	}
	defer rows.Close()
	var events []outlet.Event
	for size := 0; size < feedBytes && rows.Next(); {
		var e outlet.Event
		if err := rows.Scan(&e.Sequence, &e.Line); err != nil {
			return 0, fmt.Errorf("read the events that wait: %w", err)
		}
		events = append(events, e)
		size += len(e.Line)
	}
	if err := rows.Err(); err != nil {
		return 0, fmt.Errorf("read the events that wait: %w", err)
	}
	rows.Close()
	if len(events) == 0 && f.removed == f.sent {
		return 0, nil
	}
	// Without events it tells whether it will take what was sent.
	if err := f.outlet.Send(ctx, events); err != nil || len(events) == 0 {
		return 0, err
	}
	f.sent = events[len(events)-1].Sequence
	return len(events), nil
}

// remove removes what has got out, and reports whether there was something. If that fails
// it is tried again with the next; a culprit that is started meanwhile asks the outlet
// first.
func (f *feed) remove() bool {
	taken := f.outlet.Taken()
	if taken <= f.removed {
		return false
	}
	if err := f.box.remove(f.to, taken); err != nil {
		f.log.Debug("events that were sent out stay in the catalogue for now", "error", err)
		return false
	}
	f.removed = taken
	return true
}

// end gives up the outlet.
func (f *feed) end() {
	ctx, cancel := context.WithTimeout(context.Background(), readsLonger)
	defer cancel()
	if err := f.outlet.Close(ctx); err != nil {
		f.log.Error("events may not have got out", "error", err)
	}
	f.remove()
	if n := f.box.waiting.Load(); n > 0 {
		f.log.Warn("events wait to be sent out at the next start", "count", n)
	}
}
