package evidence

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"time"

	"culprit/evidence/outlet"
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

// Bounds of a feed: how many events are read at once; how soon sending is tried again,
// twice as long each time; how soon we look whether what was sent has been taken; and
// how long sending may take when culprit stops.
const (
	feedBatch   = 512
	retryLeast  = time.Second
	retryMost   = time.Minute
	lookAgain   = 100 * time.Millisecond
	feedsLonger = 3 * time.Second
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
	close(f.closing)
	defer time.AfterFunc(feedsLonger, f.stop).Stop()
	<-f.done
}

// feedTo makes the outbox, and the feed that empties it into the outlet. The outlet may
// know of more events than this catalogue, which then is a new one: numbers never come
// twice.
func (s *Store) feedTo(o outlet.Outlet) error {
	box := &outbox{told: map[string]string{}, news: make(chan struct{}, 1)}
	var last uint64
	var waiting int64
	err := s.db.QueryRow("SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'events'), 0), (SELECT count(*) FROM events)").Scan(&last, &waiting)
	if err != nil {
		return fmt.Errorf("look which events wait to be sent out: %w", err)
	}
	box.next = max(last, o.Taken()) + 1
	box.waiting.Store(waiting)
	from, err := openCatalogue(s.dir.Path(), true)
	if err != nil {
		return err
	}
	from.SetConnMaxLifetime(time.Second) // another catalogue may take its place
	if s.feed != nil {                   // of a catalogue that was damaged
		s.feed.from.Close()
	}
	s.writer.out = box
	s.feed = &feed{outlet: o, box: box, from: from, to: s.db, log: s.log, sent: o.Taken(), closing: make(chan struct{}), done: make(chan struct{})}
	return nil
}

// run sends until nothing more is recorded and nothing waits, or the context ends.
func (f *feed) run(ctx context.Context) {
	defer close(f.done)
	defer f.end()
	for pause := retryLeast; ctx.Err() == nil; {
		last := isClosed(f.closing) // nothing comes after what is read now
		n, err := f.send(ctx)
		f.remove()
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
			if f.failing {
				f.log.Info("events are sent out again")
			}
			f.failing, pause = false, retryLeast
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
	for rows.Next() {
		var e outlet.Event
		if err := rows.Scan(&e.Sequence, &e.Line); err != nil {
			return 0, fmt.Errorf("read the events that wait: %w", err)
		}
		events = append(events, e)
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

// remove removes what has got out. If that fails it is tried again with the next; a
// culprit that is started meanwhile asks the outlet first.
func (f *feed) remove() {
	taken := f.outlet.Taken()
	if taken <= f.removed {
		return
	}
	done, err := f.to.Exec("DELETE FROM events WHERE sequence <= ?", taken)
	if err != nil {
		f.log.Debug("events that were sent out stay in the catalogue for now", "error", err)
		return
	}
	n, _ := done.RowsAffected()
	f.box.waiting.Add(-n)
	f.removed = taken
}

// end gives up the outlet.
func (f *feed) end() {
	ctx, cancel := context.WithTimeout(context.Background(), feedsLonger)
	defer cancel()
	if err := f.outlet.Close(ctx); err != nil {
		f.log.Error("events may not have got out", "error", err)
	}
	f.remove()
	if n := f.box.waiting.Load(); n > 0 {
		f.log.Warn("events wait to be sent out at the next start", "count", n)
	}
}
