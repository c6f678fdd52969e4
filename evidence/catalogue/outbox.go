package evidence

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"culprit/internal/event"
)

// An outbox keeps, in the catalogue, the events that are to be sent out until they are.
// What is recorded and the event that tells of it come in one transaction: whenever we
// are killed, neither is there without the other. It belongs to the writing goroutine,
// but for what is atomic.
type outbox struct {
	next  uint64            // the sequence number of the next event
	limit int64             // of bytes
	told  map[string]string // what was told last of the captures and traces that run
	full  *event.Loss       // of the events for which there has been no room since there was some
	news  chan struct{}     // there are more events
	tx    outboxChange

	waiting, bytes atomic.Int64  // events in the catalogue, and their size
	dropped        atomic.Uint64 // events that had no room
	catalogue      atomic.Uint64 // counts the catalogues that were given up
}

// outboxChange is what a transaction changes.
type outboxChange struct {
	next           uint64
	waiting, bytes int64
	dropped        uint64
	told           map[string]string
	full           *event.Loss
}

// maxWaiting bounds the events that wait to be sent out, in bytes. What has no room takes
// a number all the same, so that the gap shows, and is counted as lost.
const maxWaiting = 128 << 20

func newOutbox(limit int64) *outbox {
	return &outbox{next: 1, limit: limit, told: map[string]string{}, news: make(chan struct{}, 1)}
}

// begin begins a transaction.
func (o *outbox) begin() {
	if o != nil {
		o.tx = outboxChange{next: o.next, told: map[string]string{}, full: o.full}
	}
}

// wants reports whether something is to be told. Captures and traces have a state: they
// are told anew only with a new one.
func (o *outbox) wants(id, state string) bool {
	return o != nil && (state == "" || o.told[id] != state)
}

// tell sends the document of something out, if the outbox wants it.
func (w *writer) tell(id, action, state, doc string) {
	o := w.out
	if !o.wants(id, state) {
		return
	}
	text := line(action, doc, o.tx.next)
	if size := int64(len(text)); o.bytes.Load()+o.tx.bytes+size <= o.limit {
		w.exec(putEvent, o.tx.next, text)
		o.tx.waiting++
		o.tx.bytes += size
	} else {
		o.tx.dropped++
	}
	o.tx.next++
	if state != "" {
		o.tx.told[id] = state
	}
}

// end ends a transaction that is about to be written: it notes what had no room, and once
// there is room again, sends that out.
func (o *outbox) end(w *writer) {
	if o == nil {
		return
	}
	switch {
	case o.tx.dropped > 0:
		l := event.NewLoss(event.LossUnsent, "", 0)
		if o.full != nil {
			l = *o.full
		}
		l.Culprit.Count += o.tx.dropped
		o.tx.full = &l
		w.exec(putLoss, l.Event.ID, string(l.Culprit.Code), l.Culprit.Count, document(l))
		w.exec(skipEvents, o.tx.next-1)
	case o.full != nil && o.bytes.Load() < o.limit/2:
		w.tell(o.full.Event.ID, o.full.Event.Action, "", document(*o.full))
		o.tx.full = nil
	}
}

// done takes note of a transaction that was written.
func (o *outbox) done() {
	if o == nil || o.tx.next == o.next {
		return
	}
	o.full = o.tx.full
	o.next = o.tx.next
	o.waiting.Add(o.tx.waiting)
	o.bytes.Add(o.tx.bytes)
	o.dropped.Add(o.tx.dropped)
	for id, state := range o.tx.told {
		if strings.HasPrefix(state, event.StateEnded) || strings.HasPrefix(state, event.StateLost) {
			delete(o.told, id)
		} else {
			o.told[id] = state
		}
	}
	select {
	case o.news <- struct{}{}:
	default:
	}
}

// givenUp counts the events of a catalogue that was given up.
func (o *outbox) givenUp() uint64 {
	if o == nil {
		return 0
	}
	o.catalogue.Add(1)
	o.bytes.Store(0)
	n := uint64(o.waiting.Swap(0))
	o.dropped.Add(n)
	return n
}

// remove removes events that have got out. It is called by the feed.
func (o *outbox) remove(db *sql.DB, upTo uint64) error {
	catalogue := o.catalogue.Load()
	var n, size int64
	rows, err := db.Query("DELETE FROM events WHERE sequence <= ? RETURNING length(CAST(doc AS BLOB))", upTo)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var one int64
		if err := rows.Scan(&one); err != nil {
			return err
		}
		n, size = n+1, size+one
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if o.catalogue.Load() == catalogue {
		o.waiting.Add(-n)
		o.bytes.Add(-size)
	}
	return nil
}

// waitingSize is how many events wait, and their size in bytes.
const waitingSize = "SELECT count(*), coalesce(sum(length(CAST(doc AS BLOB))), 0) FROM events"

// ecsVersion is the version of the Elastic Common Schema whose fields are used.
const ecsVersion = "8.11.0"

// line makes the line of an event. Each document begins with its time and its event
// object.
func line(action, doc string, sequence uint64) string {
	return `{"ecs":{"version":"` + ecsVersion + `"},` + strings.Replace(doc[1:], `"event":{`,
		fmt.Sprintf(`"event":{"sequence":%d,"module":"culprit","dataset":"culprit.%s",`, sequence, action), 1) + "\n"
}

// hit reads a hit in the transaction. It may have been removed.
func (w *writer) hit(id string) (h event.Hit, ok bool) {
	if w.err != nil {
		return h, false
	}
	var doc string
	err := w.tx.Stmt(w.statements[getHit]).QueryRow(id).Scan(&doc)
	if err == nil {
		err = json.Unmarshal([]byte(doc), &h)
	}
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		w.err = err
	}
	return h, err == nil
}
