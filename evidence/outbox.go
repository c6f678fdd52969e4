package evidence

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"

	"culprit/internal/event"
)

// An outbox keeps, in the catalogue, the events that are to be sent out until they are.
// What is recorded and the event that tells of it come in one transaction: whenever we
// are killed, neither is there without the other. It belongs to the writing goroutine.
type outbox struct {
	next    uint64            // the sequence number of the next event
	told    map[string]string // what was told last of the captures and traces that run
	dropped uint64            // events for which there was no room
	waiting atomic.Int64      // events in the catalogue
	news    chan struct{}     // there are more of them
}

// maxWaiting bounds the events that wait to be sent out, of 1 to 2 KB each.
const maxWaiting = 100_000

// eventsLost is the loss of events that had no room, or were in a catalogue that had to
// be given up.
const eventsLost = "events not sent out: more than 100,000 waited, or their catalogue was damaged"

// outgoing is an event to be sent out: a document, and of captures and traces in which
// state they are, as they are told anew only with a new one.
type outgoing struct{ id, action, state, doc string }

// of makes the outgoing events of a batch. The batch belongs to a transaction.
func (o *outbox) of(b *batch, w *writer) (events []outgoing) {
	if o == nil {
		return nil
	}
	for _, h := range b.hits {
		events = append(events, outgoing{h.Event.ID, h.Event.Action, "", document(h)})
	}
	for _, r := range b.repeats {
		if h, ok := w.hit(r.id); ok {
			h.Culprit.Count = r.count
			events = append(events, outgoing{r.id, h.Event.Action, "", document(h)})
		}
	}
	for id, c := range b.captures {
		if state := fmt.Sprint(c.Culprit.State, c.Culprit.Level); o.told[id] != state {
			c.Culprit.Config = "" // the catalogue has it
			events = append(events, outgoing{id, c.Event.Action, state, document(c)})
		}
	}
	for id, t := range b.traces {
		if state := t.Culprit.State; o.told[id] != state {
			events = append(events, outgoing{id, t.Event.Action, state, document(t)})
		}
	}
	for _, p := range b.proofs {
		events = append(events, outgoing{p.Event.ID, p.Event.Action, "", document(p)})
	}
	for _, l := range b.losses {
		events = append(events, outgoing{l.Event.ID, l.Event.Action, "", document(l)})
	}
	return events
}

// room is how many more may wait.
func (o *outbox) room() int { return int(max(0, maxWaiting-o.waiting.Load())) }

// overflow is how many events have had no room since this was last told, as soon as
// there is room again.
func (o *outbox) overflow() uint64 {
	if o == nil || o.room() < maxWaiting/2 {
		return 0
	}
	return o.dropped
}

// givenUp counts the events of a catalogue that was given up.
func (o *outbox) givenUp() {
	if o != nil {
		o.dropped += uint64(o.waiting.Swap(0))
	}
}

// put writes events with consecutive sequence numbers. Those for which there is no
// room leave a gap.
func (o *outbox) put(events []outgoing, w *writer) (kept int) {
	if len(events) == 0 {
		return 0
	}
	kept = min(len(events), o.room())
	for i, e := range events[:kept] {
		n := o.next + uint64(i)
		w.exec(putEvent, n, line(e, n))
	}
	return kept
}

// done takes note of events that were written for good.
func (o *outbox) done(events []outgoing, kept int) {
	if len(events) == 0 {
		return
	}
	o.next += uint64(len(events))
	o.dropped += uint64(len(events) - kept)
	o.waiting.Add(int64(kept))
	for _, e := range events {
		switch {
		case strings.HasPrefix(e.state, event.StateEnded), strings.HasPrefix(e.state, event.StateLost):
			delete(o.told, e.id)
		case e.state != "":
			o.told[e.id] = e.state
		}
	}
	select {
	case o.news <- struct{}{}:
	default:
	}
}

// ecsVersion is the version of the Elastic Common Schema whose fields are used.
const ecsVersion = "8.11.0"

// line makes the line of an event. Each document begins with its time and its event
// object.
func line(e outgoing, sequence uint64) string {
	return `{"ecs":{"version":"` + ecsVersion + `"},` + strings.Replace(e.doc[1:], `"event":{`,
		fmt.Sprintf(`"event":{"sequence":%d,"module":"culprit","dataset":"culprit.%s",`, sequence, e.action), 1) + "\n"
}

// hit reads a hit in the transaction.
func (w *writer) hit(id string) (h event.Hit, ok bool) {
	var doc string
	if w.err != nil || w.tx.Stmt(w.statements[getHit]).QueryRow(id).Scan(&doc) != nil {
		return h, false
	}
	return h, json.Unmarshal([]byte(doc), &h) == nil
}
