package catalogue

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync/atomic"

	"culprit/internal/bell"
	"culprit/internal/event"
)

// An Outbox keeps events in the catalogue until they are sent out. A document and its event are
// written in one transaction: even if we are killed, the catalogue has both or neither. Safe for
// concurrent use.
type Outbox struct {
	table box         // where the events wait
	host  *event.Host // of a fleet, to which all is told that shows a document there; nil: the events of this machine
	taken uint64      // the last event that an earlier culprit is known to have sent
	limit int64       // of bytes
	news  bell.Bell

	waiting atomic.Int64  // events in the catalogue
	dropped atomic.Uint64 // events that had no room

	// The catalogue's lock guards the rest.
	catalogue *Catalogue
	id        string            // of the numbers of a fleet's events, see [Outbox.ID]
	because   string            // see [Outbox.RenewedFor]
	next      uint64            // the sequence number of the next event
	bytes     int64             // the size of the events that wait
	told      map[string]string // the last state that was sent of each running capture and trace
	full      *event.Loss       // counts the events without room, until there is room again to tell it; over restarts, too
}

// eventsToAdd is what a transaction changes in the outbox.
type eventsToAdd struct {
	outbox         *Outbox
	next           uint64
	waiting, bytes int64
	dropped        uint64
	told           map[string]string
	full           *event.Loss
}

// maxWaiting bounds the events of this machine that wait, in bytes; [NewFleetOutbox] says how many those of a fleet may have. An event
// without room takes a number all the same, so that the gap shows, and is counted as lost.
const maxWaiting = 128 << 20

// NewOutbox makes an outbox for [Open]. taken is the sequence number up to which events are
// known to have been sent.
func NewOutbox(taken uint64) *Outbox {
	return &Outbox{table: eventsBox, taken: taken, limit: maxWaiting, news: bell.New()}
}

// open begins with a catalogue. If the outlet has seen later events than the catalogue, those
// came from another catalogue: then nobody can say whether the events that wait here were sent,
// and they are a loss.
func (o *Outbox) open(c *Catalogue) (lost []event.Loss, err error) {
	var last uint64
	var waiting, size int64
	err = c.db.QueryRow("SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = ?), 0)", o.table.name).Scan(&last)
	if err == nil {
		err = c.db.QueryRow(o.table.size).Scan(&waiting, &size)
	}
	if err == nil && o.taken > last && waiting > 0 {
		if _, err = c.db.Exec("DELETE FROM " + o.table.name); err == nil {
			lost = append(lost, event.NewLoss(o.table.unsent, "", uint64(waiting)))
			waiting, size = 0, 0
		}
	}
	if err == nil && o.host != nil {
		err = o.identify(c, false)
	}
	if err == nil {
		o.full, err = o.table.untoldLoss(c)
	}
	o.catalogue, o.told = c, map[string]string{}
	o.next = max(last, o.taken) + 1
	o.waiting.Store(waiting)
	o.bytes = size
	return lost, err
}

// begin begins a transaction.
func (o *Outbox) begin() *eventsToAdd {
	return &eventsToAdd{outbox: o, next: o.next, told: map[string]string{}, full: o.full}
}

// wants reports whether a document makes an event. Captures and traces have a state, and make
// one only when it is new.
func (e *eventsToAdd) wants(id, state string) bool {
	return state == "" || e.outbox.told[id] != state
}

// add adds the event of a document.
func (e *eventsToAdd) add(t *transaction, id, action, state, doc string) {
	text := line(action, doc, e.next)
	if size := int64(len(text)); e.outbox.bytes+e.bytes+size <= e.outbox.limit {
		t.exec(e.outbox.table.put, e.next, text)
		e.waiting++
		e.bytes += size
	} else {
		e.dropped++
	}
	e.next++
	if state != "" {
		e.told[id] = state
	}
}

// end completes a transaction before it is committed: it counts the events without room.
func (e *eventsToAdd) end(t *transaction) {
	if e.dropped == 0 {
		return
	}
	l := event.NewLoss(e.outbox.table.unsent, "", 0)
	if e.outbox.full != nil {
		l = *e.outbox.full
	}
	l.Culprit.Count += e.dropped
	e.full = &l
	t.exec(putLoss, l.Event.ID, string(l.Culprit.Code), l.Culprit.Count, document(l), nil, t.arrived())
	t.exec(keepRow, e.outbox.table.untold, l.Event.ID)
	t.exec(skipEvents, e.next-1, e.outbox.table.name)
}

// tell adds an event of the events that had no room, once there is room again.
func (e *eventsToAdd) tell(t *transaction) {
	o := e.outbox
	if o.full == nil || e.dropped > 0 || o.bytes >= o.limit/2 {
		return
	}
	l := *o.full
	t.addEvent(l.Event.ID, l.Event.Action, "", document(l), func(of *event.Host) string { l.Host = of; return document(l) })
	t.exec(forgetUntold, o.table.untold)
	e.full = nil
}

// done takes over what a committed transaction changed.
func (e *eventsToAdd) done() {
	o := e.outbox
	if e.next == o.next {
		return
	}
	o.full = e.full
	o.next = e.next
	o.waiting.Add(e.waiting)
	o.bytes += e.bytes
	o.dropped.Add(e.dropped)
	maps.Copy(o.told, e.told)
	maps.DeleteFunc(o.told, func(_, state string) bool {
		return strings.HasPrefix(state, event.StateEnded) || strings.HasPrefix(state, event.StateLost)
	})
	o.news.Ring()
}

// givenUp counts the events of a catalogue that was set aside as lost.
func (o *Outbox) givenUp() uint64 {
	o.bytes = 0
	n := uint64(o.waiting.Swap(0))
	o.dropped.Add(n)
	return n
}

// News receives when there are more events.
func (o *Outbox) News() <-chan struct{} { return o.news }

// Waiting returns how many events wait.
func (o *Outbox) Waiting() int64 { return o.waiting.Load() }

// Lost returns how many events were lost: they had no room, or their catalogue was set aside.
func (o *Outbox) Lost() uint64 { return o.dropped.Load() }

// Events calls take with each event after a sequence number, in order: at most that many, and
// until take returns false.
func (o *Outbox) Events(ctx context.Context, after uint64, most int, take func(sequence uint64, line string) bool) error {
	rows, err := o.catalogue.reading.QueryContext(ctx, o.table.after, after, most)
	if err != nil {
		return fmt.Errorf("read the events that wait: %w", err)
	}
	defer rows.Close()
	for more := true; more && rows.Next(); {
		var sequence uint64
		var line string
		if err := rows.Scan(&sequence, &line); err != nil {
			return fmt.Errorf("read the events that wait: %w", err)
		}
		more = take(sequence, line)
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read the events that wait: %w", err)
	}
	return nil
}

// Remove removes the events up to a sequence number, as they were sent.
func (o *Outbox) Remove(upTo uint64) error {
	c := o.catalogue
	c.mu.Lock()
	defer c.mu.Unlock()
	var n, size int64
	for one, err := range rows(c.own(), o.table.remove, []any{upTo}, func(size *int64, scan func(...any) error) error { return scan(size) }) {
		if err != nil {
			return err
		}
		n, size = n+1, size+one
	}
	o.waiting.Add(-n)
	o.bytes -= size
	if o.full != nil {
		_ = c.changeLocked(context.Background(), func(*transaction) {}) // tells it if there is room; else a later transaction does
	}
	return nil
}

// ecsVersion is the version of the Elastic Common Schema whose fields are used.
const ecsVersion = "8.11.0"

// line makes the line of an event, from a document that begins with its time and its event
// object.
func line(action, doc string, sequence uint64) string {
	return `{"ecs":{"version":"` + ecsVersion + `"},` + strings.Replace(doc[1:], `"event":{`,
		fmt.Sprintf(`"event":{"sequence":%d,"module":"culprit","dataset":"culprit.%s",`, sequence, action), 1) + "\n"
}
