package catalogue

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"culprit/internal/bell"
	"culprit/internal/event"
)

// A box is the table in which the events of an outbox wait, with the statements for it.
type box struct {
	name                     string
	put, after, remove, size string
	unsent                   event.LossCode // what had no room
	untold                   string         // the row of outboxes with the id of the loss that is not told yet
	because                  string         // that with the id for which the numbers got theirs
}

func newBox(name string, unsent event.LossCode) box {
	return box{
		name: name, unsent: unsent, untold: name + " untold", because: name + " because",
		put:    "INSERT INTO " + name + " VALUES (?,?)",
		after:  "SELECT sequence, doc FROM " + name + " WHERE sequence > ? ORDER BY sequence LIMIT ?",
		remove: "DELETE FROM " + name + " WHERE sequence <= ? RETURNING length(CAST(doc AS BLOB))",
		size:   "SELECT count(*), coalesce(sum(length(CAST(doc AS BLOB))), 0) FROM " + name,
	}
}

var (
	eventsBox = newBox("events", event.LossUnsent)
	fleetBox  = newBox("events_fleet", event.LossUnsentFleet)
)

// NewFleetOutbox makes an outbox for [Open] whose events go to a fleet, where this machine is called host. They have all
// that shows a document there: the packets of hits and the programs, too. The events of this machine and those of the fleet
// wait for nobody but their own receiver. limit bounds those that wait, in bytes.
func NewFleetOutbox(host string, limit int64) *Outbox {
	return &Outbox{table: fleetBox, host: &event.Host{Name: host}, limit: limit, news: bell.New()}
}

const (
	newRow       = "INSERT INTO outboxes (name, id) VALUES (?, ?) ON CONFLICT (name) DO NOTHING"
	keepRow      = "INSERT INTO outboxes (name, id) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET id = excluded.id"
	forgetUntold = "DELETE FROM outboxes WHERE name = ?"
	getUntold    = "SELECT doc FROM losses WHERE id = (SELECT id FROM outboxes WHERE name = ?)"
)

// untoldLoss returns the loss that an earlier culprit had no room to tell; nil: there is none.
func (b box) untoldLoss(c *Catalogue) (*event.Loss, error) {
	var doc string
	var l event.Loss
	err := c.db.QueryRow(getUntold, b.untold).Scan(&doc)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal([]byte(doc), &l)
	}
	if err != nil {
		return nil, fmt.Errorf("read which events had no room: %w", err)
	}
	return &l, nil
}

// addEvent adds the event of a document to all outboxes that want it. ofFleet makes the document for a fleet.
func (t *transaction) addEvent(id, action, state, doc string, ofFleet func(*event.Host) string) {
	for _, e := range t.events {
		switch {
		case !e.wants(id, state):
		case e.outbox.host == nil:
			e.add(t, id, action, state, doc)
		default:
			e.add(t, id, action, state, ofFleet(e.outbox.host))
		}
	}
}

// wants reports whether any outbox wants the event of a document.
func (t *transaction) wants(id, state string) bool {
	for _, e := range t.events {
		if e.wants(id, state) {
			return true
		}
	}
	return false
}

// ID names the numbers of a fleet's events: with another catalogue they begin anew, under another id.
func (o *Outbox) ID() string {
	o.catalogue.mu.Lock()
	defer o.catalogue.mu.Unlock()
	return o.id
}

// Last is the number of the last event.
func (o *Outbox) Last() uint64 {
	o.catalogue.mu.Lock()
	defer o.catalogue.mu.Unlock()
	return o.next - 1
}

// Renew gives the numbers a new id, because of another id that they remember: those that come have been given before, as the catalogue is an
// older copy of itself, or another catalogue gave its own.
func (o *Outbox) Renew(because string) error {
	c := o.catalogue
	c.mu.Lock()
	defer c.mu.Unlock()
	id := event.NewID()
	err := c.changeLocked(context.Background(), func(t *transaction) {
		t.exec(keepRow, o.table.name, id)
		t.exec(keepRow, o.table.because, because)
	})
	if err != nil {
		return fmt.Errorf("name the numbers of the fleet's events: %w", err)
	}
	o.id, o.because = id, because
	return nil
}

// RenewedFor is the id because of which the numbers got theirs; "": they have their first.
func (o *Outbox) RenewedFor() string {
	o.catalogue.mu.Lock()
	defer o.catalogue.mu.Unlock()
	return o.because
}

// identify reads the id from the catalogue, or gives it a new one. The caller holds the catalogue's lock.
func (o *Outbox) identify(c *Catalogue, renew bool) error {
	put := newRow
	if renew {
		put = keepRow
	}
	_, err := c.db.Exec(put, o.table.name, event.NewID())
	if err == nil {
		err = c.db.QueryRow("SELECT id, coalesce((SELECT id FROM outboxes WHERE name = ?), '') FROM outboxes WHERE name = ?", o.table.because, o.table.name).Scan(&o.id, &o.because)
	}
	if err != nil {
		return fmt.Errorf("name the numbers of the fleet's events: %w", err)
	}
	return nil
}
