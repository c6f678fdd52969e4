package evidence

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	"culprit/internal/event"
)

// batch is a set of changes for one transaction. Of what changed several times
// the last counts.
type batch struct {
	hits     []*event.Hit
	captures map[string]event.Capture
	traces   map[string]event.Trace
	programs []event.Program
	proofs   []event.Proof
	losses   []event.Loss
	repeats  []repeated
	packets  []packetsDue
	swept    []swept
}

// swept is a loss that the Keeper has recorded: it is only sent out.
type swept event.Loss

// packetsDue says that all is known of a capture's packets.
type packetsDue struct{ capture event.Capture }

func newBatch() *batch {
	return &batch{captures: map[string]event.Capture{}, traces: map[string]event.Trace{}}
}

func (b *batch) add(op any) {
	switch v := op.(type) {
	case *event.Hit:
		b.hits = append(b.hits, v)
	case event.Capture:
		b.captures[v.Event.ID] = v
	case event.Trace:
		b.traces[v.Event.ID] = v
	case event.Program:
		b.programs = append(b.programs, v)
	case event.Proof:
		b.proofs = append(b.proofs, v)
	case event.Loss:
		b.losses = append(b.losses, v)
	case swept:
		b.swept = append(b.swept, v)
	case packetsDue:
		b.packets = append(b.packets, v)
	case repeated:
		b.repeats = append(b.repeats, v)
	default:
		panic(fmt.Sprintf("evidence: change of type %T", op))
	}
}

func (b *batch) size() int {
	return len(b.hits) + len(b.captures) + len(b.traces) + len(b.programs) + len(b.proofs) + len(b.losses) + len(b.repeats) + len(b.packets) + len(b.swept)
}

// maxKept bounds the captures and traces, and the captures whose packets are due, that
// wait until the catalogue can be written again, and maxLosses the losses.
const (
	maxKept   = 10_000
	maxLosses = 1000
)

// kept is what of a batch that could not be written is kept for the next: how captures
// and traces ended should not be lost. If it lasts too long, they are, and counted.
func (b *batch) kept() *batch {
	next := newBatch()
	next.captures, next.traces, next.packets = b.captures, b.traces, b.packets
	lose := func(code event.LossCode, n int) { next.add(event.NewLoss(code, "", uint64(n))) }
	if n := len(next.captures) + len(next.traces); n > maxKept {
		next.captures, next.traces = map[string]event.Capture{}, map[string]event.Trace{}
		lose(event.LossUnrecordedEnds, n)
	}
	if n := len(next.packets); n > maxKept {
		next.packets = nil
		lose(event.LossUnrecordedCaps, n)
	}
	next.losses = sum(append(next.losses, b.losses...))
	return next
}

// sum adds up losses of the same kind, and all that are of too many kinds.
func sum(losses []event.Loss) []event.Loss {
	var all []event.Loss
	at := map[event.LossDetail]int{}
	for _, l := range losses {
		kind := event.LossDetail{Code: l.Culprit.Code, Detail: l.Culprit.Detail}
		if _, known := at[kind]; !known && len(all) >= maxLosses {
			kind = event.LossDetail{Code: event.LossOther}
			l.Culprit = event.LossDetail{Code: event.LossOther, Count: l.Culprit.Count}
		}
		i, known := at[kind]
		if !known {
			at[kind] = len(all)
			all = append(all, l)
			continue
		}
		all[i].Culprit.Count += l.Culprit.Count
	}
	return all
}

// unkept counts the rest.
func (b *batch) unkept() uint64 {
	return uint64(len(b.hits) + len(b.proofs) + len(b.programs) + len(b.repeats))
}

// write writes the batch, and the events that tell of it, all or nothing.
func (b *batch) write(w *writer) error {
	if err := w.begin(); err != nil {
		return err
	}
	defer w.tx.Rollback()
	for _, h := range b.hits {
		var uid, capture any
		if h.User != nil {
			uid = h.User.UID()
		}
		if h.Culprit.Capture != nil {
			capture = h.Culprit.Capture.ID
		}
		doc := document(h)
		w.exec(insertHit, h.Event.ID, h.Rule.Name, uid, capture, h.Culprit.Count, doc, h.Packet)
		w.tell(h.Event.ID, h.Event.Action, "", doc)
	}
	for _, r := range b.repeats {
		w.exec(countHit, r.count, r.id)
		if !w.out.wants(r.id, "") {
			continue
		}
		if h, ok := w.hit(r.id); ok {
			h.Culprit.Count = r.count
			w.tell(r.id, h.Event.Action, "", document(h))
		}
	}
	for id, c := range b.captures {
		w.exec(putCapture, id, ruleName(c.Rule), c.User.UID(), c.Culprit.State, document(c))
		if state := fmt.Sprint(c.Culprit.State, c.Culprit.Level); w.out.wants(id, state) {
			c.Culprit.Config = "" // the catalogue has it
			w.tell(id, c.Event.Action, state, document(c))
		}
	}
	for id, t := range b.traces {
		var hit any
		if t.Culprit.Hit != nil {
			hit = t.Culprit.Hit.ID
		}
		doc := document(t)
		w.exec(putTrace, id, ruleName(t.Rule), t.User.UID(), t.Culprit.Capture.ID, hit, t.Culprit.State, doc)
		w.tell(id, t.Event.Action, t.Culprit.State, doc)
	}
	for _, p := range b.programs {
		w.exec(putProgram, p.Event.ID, p.User.UID(), p.Culprit.Capture.ID, document(p))
	}
	for _, p := range b.proofs {
		d := &p.Culprit
		doc := document(p)
		w.exec(putProof, p.Event.ID, p.Rule.Name, p.User.UID(), d.Capture.ID, d.Trace.ID, d.Hit.ID, doc)
		w.tell(p.Event.ID, p.Event.Action, "", doc)
	}
	for _, l := range b.losses {
		doc := document(l)
		w.exec(putLoss, l.Event.ID, string(l.Culprit.Code), l.Culprit.Count, doc)
		w.tell(l.Event.ID, l.Event.Action, "", doc)
	}
	for _, l := range b.swept {
		w.tell(l.Event.ID, l.Event.Action, "", document(l))
	}
	w.out.end(w)
	if w.err != nil {
		return w.err
	}
	if err := w.tx.Commit(); err != nil {
		return err
	}
	w.out.done()
	return nil
}

// writer runs the statements of a transaction until the first error. It prepares
// each only once.
type writer struct {
	db         *sql.DB
	statements map[string]*sql.Stmt
	tx         *sql.Tx
	err        error
	out        *outbox // nil: events are not sent out
}

// The statements that change the catalogue.
const (
	insertHit  = "INSERT INTO hits VALUES (?,?,?,?,?,?,?)"
	countHit   = "UPDATE hits SET count = ? WHERE id = ?"
	putCapture = "INSERT OR REPLACE INTO captures VALUES (?,?,?,?,?)"
	putTrace   = "INSERT OR REPLACE INTO traces VALUES (?,?,?,?,?,?,?)"
	putProgram = "INSERT OR REPLACE INTO programs VALUES (?,?,?,?)"
	putProof   = "INSERT OR REPLACE INTO proofs VALUES (?,?,?,?,?,?,?)"
	putLoss    = "INSERT OR REPLACE INTO losses VALUES (?,?,?,?)"
	putEvent   = "INSERT INTO events VALUES (?,?)"
	skipEvents = "UPDATE sqlite_sequence SET seq = ? WHERE name = 'events'"
	getHit     = "SELECT doc FROM hits WHERE id = ?"
)

func newWriter(db *sql.DB) (*writer, error) {
	w := &writer{db: db, statements: map[string]*sql.Stmt{}}
	for _, query := range []string{insertHit, countHit, putCapture, putTrace, putProgram, putProof, putLoss, putEvent, skipEvents, getHit} {
		st, err := db.Prepare(query)
		if err != nil {
			return nil, err
		}
		w.statements[query] = st
	}
	return w, nil
}

func (w *writer) begin() (err error) {
	w.err = nil
	w.out.begin()
	w.tx, err = w.db.BeginTx(context.Background(), nil)
	return err
}

func (w *writer) exec(query string, args ...any) {
	if w.err == nil {
		_, w.err = w.tx.Stmt(w.statements[query]).Exec(args...)
	}
}

// document encodes what package event defines, which always can be.
func document(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("evidence: encode %T: %v", v, err))
	}
	return string(b)
}

func ruleName(r *event.Rule) any {
	if r == nil {
		return nil
	}
	return r.Name
}
