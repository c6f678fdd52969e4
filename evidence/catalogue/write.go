package catalogue

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

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
	for _, o := range c.outboxes {
		if n := o.givenUp(); n > 0 {
			b.Loss(event.NewLoss(o.table.unsent, "", n))
		}
		if o.host != nil {
			if err := o.identify(c, true); err != nil {
				return err
			}
		}
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
			t.putProgram(p)
		}
		for _, p := range b.proofs {
			t.putProof(p)
		}
		for _, s := range b.snapshots {
			t.putSnapshot(s)
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
var (
	putHit     = put("hits", "id, rule, uid, capture, count, doc, packet, host, name, arrived")
	countHit   = "UPDATE hits SET count = ? WHERE id = ?"
	putCapture = put("captures", "id, rule, uid, state, doc, host, arrived")
	putTrace   = put("traces", "id, rule, uid, capture, hit, state, doc, host")
	putProgram = put("programs", "id, uid, capture, doc, host")
	putProof   = put("proofs", "id, rule, uid, capture, trace, hit, doc, host, arrived")
	putLoss    = put("losses", "id, code, count, doc, host, arrived")
	putSnap    = put("snapshots", "id, rule, uid, capture, hit, trace, executable, doc, host")
	nextNumber = "UPDATE arrivals SET number = number + 1 RETURNING number"
	skipEvents = "UPDATE sqlite_sequence SET seq = ? WHERE name = ?"
	getHit     = "SELECT doc FROM hits WHERE id = ?"
)

// put makes the statement that writes a row, or what it is now. It changes no row of another host.
func put(table, columns string) string {
	names := strings.Split(columns, ", ")
	set := make([]string, 0, len(names))
	for _, name := range names[1:] {
		value := "excluded." + name
		switch name {
		case "host", "arrived":
			continue
		case "packet": // a repeat need not have it
			value = "coalesce(excluded.packet, packet)"
		case "count":
			value = "max(excluded.count, count)"
		}
		set = append(set, name+" = "+value)
	}
	return fmt.Sprintf("INSERT INTO %s (%s) VALUES (?%s) ON CONFLICT (id) DO UPDATE SET %s WHERE host IS excluded.host",
		table, columns, strings.Repeat(",?", len(names)-1), strings.Join(set, ", "))
}

func prepare(db *sql.DB) (map[string]*sql.Stmt, error) {
	statements := map[string]*sql.Stmt{}
	for _, query := range []string{putHit, countHit, putCapture, putTrace, putProgram, putProof, putSnap, putLoss, nextNumber, eventsBox.put, fleetBox.put, skipEvents, getHit, foreign} {
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
	events     []*eventsToAdd
	host       any   // whose documents they are, in a mirror; nil: our own
	number     int64 // of all that arrives in it; 0: nothing yet
	err        error
}

// arrived returns the number of what arrives in the transaction.
func (t *transaction) arrived() int64 {
	if t.number == 0 && t.err == nil {
		t.err = t.tx.Stmt(t.statements[nextNumber]).QueryRow().Scan(&t.number)
	}
	return t.number
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

// The put functions write a document, and return whether they did: not if another host has one with its id.

func (t *transaction) putHit(h *event.Hit) bool {
	var uid, capture, name any
	if h.User != nil {
		uid = h.User.UID()
	}
	if h.DNS != nil && h.DNS.Question.Name != "" {
		name = backwards(h.DNS.Question.Name)
	}
	if h.Culprit.Capture != nil {
		capture = h.Culprit.Capture.ID
	}
	doc := document(h)
	put := t.exec(putHit, h.Event.ID, h.Rule.Name, uid, capture, h.Culprit.Count, doc, h.Packet, t.host, name, t.arrived())
	t.addEvent(h.Event.ID, h.Event.Action, "", doc, func(of *event.Host) string { return hitOf(h, h.Packet, of) })
	return put > 0
}

// hitOf is the document of a hit in a fleet, with its packet.
func hitOf(h *event.Hit, packet []byte, of *event.Host) string {
	whole := *h
	whole.Host, whole.Culprit.Raw = of, packet
	return document(whole)
}

// backwards turns a text around, letter by letter.
func backwards(s string) string {
	letters := []rune(s)
	slices.Reverse(letters)
	return string(letters)
}

func (t *transaction) countHit(r repeat) {
	t.exec(countHit, r.count, r.hit)
	if !t.wants(r.hit, "") {
		return
	}
	if h, ok := t.hit(r.hit); ok {
		h.Culprit.Count = r.count
		t.addEvent(r.hit, h.Event.Action, "", document(h), func(of *event.Host) string { return hitOf(&h, nil, of) })
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

func (t *transaction) putCapture(c event.Capture) bool {
	put := t.exec(putCapture, c.Event.ID, ruleName(c.Rule), c.User.UID(), c.Culprit.State, document(c), t.host, t.arrived())
	if state := fmt.Sprint(c.Culprit.State, c.Culprit.Level); t.wants(c.Event.ID, state) {
		c.Culprit.Config = "" // the catalogue has it
		t.addEvent(c.Event.ID, c.Event.Action, state, document(c), func(of *event.Host) string {
			if c.Host != nil {
				whole := *c.Host
				whole.Name = of.Name
				of = &whole
			}
			c.Host = of
			return document(c)
		})
	}
	return put > 0
}

func (t *transaction) putProgram(p event.Program) bool {
	put := t.exec(putProgram, p.Event.ID, p.User.UID(), p.Culprit.Capture.ID, document(p), t.host)
	for _, e := range t.events {
		if e.outbox.host != nil {
			p.Host = e.outbox.host
			e.add(t, p.Event.ID, p.Event.Action, "", document(p))
		}
	}
	return put > 0
}

func (t *transaction) putTrace(tr event.Trace) bool {
	var hit any
	if tr.Culprit.Hit != nil {
		hit = tr.Culprit.Hit.ID
	}
	doc := document(tr)
	put := t.exec(putTrace, tr.Event.ID, ruleName(tr.Rule), tr.User.UID(), tr.Culprit.Capture.ID, hit, tr.Culprit.State, doc, t.host)
	t.addEvent(tr.Event.ID, tr.Event.Action, tr.Culprit.State, doc, func(of *event.Host) string { tr.Host = of; return document(tr) })
	return put > 0
}

func (t *transaction) putProof(p event.Proof) bool {
	d := &p.Culprit
	doc := document(p)
	put := t.exec(putProof, p.Event.ID, p.Rule.Name, p.User.UID(), d.Capture.ID, d.Trace.ID, d.Hit.ID, doc, t.host, t.arrived())
	t.addEvent(p.Event.ID, p.Event.Action, "", doc, func(of *event.Host) string { p.Host = of; return document(p) })
	return put > 0
}

func (t *transaction) putSnapshot(s event.Snapshot) bool {
	id := func(r *event.Reference) any {
		if r == nil {
			return nil
		}
		return r.ID
	}
	var kept any
	d := &s.Culprit
	if d.KeptExecutable != nil && s.Process.Hash != nil {
		kept = s.Process.Hash.SHA256
	}
	doc := document(s)
	put := t.exec(putSnap, s.Event.ID, ruleName(s.Rule), s.User.UID(), d.Capture.ID, id(d.Hit), id(d.Trace), kept, doc, t.host)
	if s.Final() {
		t.addEvent(s.Event.ID, s.Event.Action, "", doc, func(of *event.Host) string { s.Host = of; return document(s) })
	}
	return put > 0
}

func (t *transaction) putLoss(l event.Loss) bool {
	doc := document(l)
	put := t.exec(putLoss, l.Event.ID, string(l.Culprit.Code), l.Culprit.Count, doc, t.host, t.arrived())
	t.addEvent(l.Event.ID, l.Event.Action, "", doc, func(of *event.Host) string { l.Host = of; return document(l) })
	return put > 0
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
