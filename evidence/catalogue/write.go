package catalogue

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"culprit/internal/event"
)

// Write writes a batch and its events, all or nothing. It fails if the directory is not in its
// place. If the catalogue is damaged or was replaced, it writes the batch into a new one.
func (c *Catalogue) Write(b *Batch) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.dir.InPlace(); err != nil {
		return err
	}
	err := c.inPlace()
	if err == nil {
		err = c.write(b)
	}
	if err == nil || !isCorrupt(err) && !errors.Is(err, errReplaced) {
		return err
	}
	aside, failed := c.renew(err)
	if failed != nil {
		return failed
	}
	b.Loss(damaged(aside, err))
	if n := c.outbox.givenUp(); n > 0 {
		b.Loss(event.NewLoss(event.LossUnsent, "", n))
	}
	return c.write(b)
}

func (c *Catalogue) write(b *Batch) error {
	return c.changeLocked(context.Background(), func(t *transaction) {
		for _, h := range b.hits {
			t.putHit(h)
		}
		for _, r := range b.repeats {
			t.countHit(r)
		}
		for _, capture := range b.captures {
			t.putCapture(capture)
		}
		for _, trace := range b.traces {
			t.putTrace(trace)
		}
		for _, p := range b.programs {
			t.exec(putProgram, p.Event.ID, p.User.UID(), p.Culprit.Capture.ID, document(p))
		}
		for _, p := range b.proofs {
			t.putProof(p)
		}
		for _, l := range b.losses {
			t.putLoss(l)
		}
		for what, n := range b.without {
			t.putLoss(event.NewLoss(what, "", n))
		}
	})
}

// The statements that are used often: they are prepared.
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

func prepare(db *sql.DB) (map[string]*sql.Stmt, error) {
	statements := map[string]*sql.Stmt{}
	for _, query := range []string{insertHit, countHit, putCapture, putTrace, putProgram, putProof, putLoss, putEvent, skipEvents, getHit} {
		st, err := db.Prepare(query)
		if err != nil {
			return nil, err
		}
		statements[query] = st
	}
	return statements, nil
}

// A transaction runs statements until the first error.
type transaction struct {
	tx         *sql.Tx
	statements map[string]*sql.Stmt
	events     *eventsToAdd // nil: events are not sent out
	err        error
}

// exec runs a statement and returns how many rows it changed.
func (t *transaction) exec(query string, args ...any) (changed int64) {
	if t.err != nil {
		return 0
	}
	var r sql.Result
	if prepared, ok := t.statements[query]; ok {
		r, t.err = t.tx.Stmt(prepared).Exec(args...)
	} else {
		r, t.err = t.tx.Exec(query, args...)
	}
	if t.err == nil {
		changed, t.err = r.RowsAffected()
	}
	return changed
}

func (t *transaction) putHit(h *event.Hit) {
	var uid, capture any
	if h.User != nil {
		uid = h.User.UID()
	}
	if h.Culprit.Capture != nil {
		capture = h.Culprit.Capture.ID
	}
	doc := document(h)
	t.exec(insertHit, h.Event.ID, h.Rule.Name, uid, capture, h.Culprit.Count, doc, h.Packet)
	t.addEvent(h.Event.ID, h.Event.Action, "", doc)
}

func (t *transaction) countHit(r repeat) {
	t.exec(countHit, r.count, r.hit)
	if !t.events.wants(r.hit, "") {
		return
	}
	if h, ok := t.hit(r.hit); ok {
		h.Culprit.Count = r.count
		t.addEvent(r.hit, h.Event.Action, "", document(h))
	}
}

// hit reads a hit in the transaction. !ok: it was removed, or t.err says what failed.
func (t *transaction) hit(id string) (h event.Hit, ok bool) {
	if t.err != nil {
		return h, false
	}
	var doc string
	err := t.tx.Stmt(t.statements[getHit]).QueryRow(id).Scan(&doc)
	if err == nil {
		err = json.Unmarshal([]byte(doc), &h)
	}
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		t.err = err
	}
	return h, err == nil
}

func (t *transaction) putCapture(c event.Capture) {
	t.exec(putCapture, c.Event.ID, ruleName(c.Rule), c.User.UID(), c.Culprit.State, document(c))
	if state := fmt.Sprint(c.Culprit.State, c.Culprit.Level); t.events.wants(c.Event.ID, state) {
		c.Culprit.Config = "" // the catalogue has it
		t.addEvent(c.Event.ID, c.Event.Action, state, document(c))
	}
}

func (t *transaction) putTrace(tr event.Trace) {
	var hit any
	if tr.Culprit.Hit != nil {
		hit = tr.Culprit.Hit.ID
	}
	doc := document(tr)
	t.exec(putTrace, tr.Event.ID, ruleName(tr.Rule), tr.User.UID(), tr.Culprit.Capture.ID, hit, tr.Culprit.State, doc)
	t.addEvent(tr.Event.ID, tr.Event.Action, tr.Culprit.State, doc)
}

func (t *transaction) putProof(p event.Proof) {
	d := &p.Culprit
	doc := document(p)
	t.exec(putProof, p.Event.ID, p.Rule.Name, p.User.UID(), d.Capture.ID, d.Trace.ID, d.Hit.ID, doc)
	t.addEvent(p.Event.ID, p.Event.Action, "", doc)
}

func (t *transaction) putLoss(l event.Loss) {
	doc := document(l)
	t.exec(putLoss, l.Event.ID, string(l.Culprit.Code), l.Culprit.Count, doc)
	t.addEvent(l.Event.ID, l.Event.Action, "", doc)
}

// document encodes a document of package event, which cannot fail.
func document(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("catalogue: encode %T: %v", v, err))
	}
	return string(b)
}

func ruleName(r *event.Rule) any {
	if r == nil {
		return nil
	}
	return r.Name
}
