package catalogue

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"time"

	"culprit/evidence/directory"
	"culprit/internal/event"
)

// A Position says how far a mirror has read the stream of a fleet.
type Position struct {
	Stream   string
	Created  time.Time // of the stream: another one of the same name begins anew
	Sequence uint64    // of the last message that was read; 0: none
}

// Received is a document that a host of a fleet sent: a *event.Hit, or an event.Capture, Trace, Program,
// Proof, Snapshot or Loss.
type Received struct {
	Host     string // "": the mirror's own, which can only be a Loss
	Document any
}

// A Member is what a host of a fleet last said of itself.
type Member struct {
	Host     string
	Revision uint64 // of the bucket
	Document []byte // JSON; the host wrote it
}

// OpenMirror opens or makes the catalogue of a mirror, whose directory must be locked. It sets a damaged one
// aside: the stream fills the new one. Nothing is sent out from a mirror. The caller closes it.
func OpenMirror(d *directory.Directory, log *slog.Logger) (c *Catalogue, err error) {
	c = &Catalogue{dir: d, log: log, mirror: true}
	for _, suffix := range suffixes {
		if err := d.Plain(fileName + suffix); err != nil {
			return nil, err
		}
	}
	if err = c.connect(); isCorrupt(err) {
		c.Close()
		aside, moveErr := c.setAside()
		if moveErr != nil {
			return nil, errors.Join(err, moveErr)
		}
		log.Error("the catalogue of the mirror was damaged: it was set aside, and the stream fills a new one", "aside", aside, "error", err)
		err = c.connect()
	}
	if err == nil {
		err = c.isMirror()
	}
	if err == nil {
		err = c.index()
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// isMirror returns an error if the catalogue is that of a daemon.
func (c *Catalogue) isMirror() error {
	var own bool
	const q = "SELECT NOT EXISTS (SELECT 1 FROM mirrors) AND (EXISTS (SELECT 1 FROM hits) OR EXISTS (SELECT 1 FROM captures) OR EXISTS (SELECT 1 FROM losses))"
	if err := c.db.QueryRow(q).Scan(&own); err != nil {
		return fmt.Errorf("open the mirror: %w", err)
	}
	if own {
		return fmt.Errorf("%s has the evidence of this machine, and cannot be the mirror of a fleet: name another directory (fleet.dir)", c.dir.Path())
	}
	return nil
}

// Position returns how far a stream was read.
func (c *Catalogue) Position(stream string) (Position, error) {
	all, err := c.own().Mirrors()
	for _, p := range all {
		if p.Stream == stream {
			return p, nil
		}
	}
	return Position{Stream: stream}, err
}

// Mirrors returns how far each stream was read; none: it is the evidence of one machine.
func (r *Reader) Mirrors() ([]Position, error) {
	return All(rows(r, "SELECT stream, created, sequence FROM mirrors ORDER BY stream", nil, func(p *Position, scan func(...any) error) error {
		var created string
		err := scan(&p.Stream, &created, &p.Sequence)
		if err == nil {
			p.Created, err = time.Parse(time.RFC3339Nano, created)
		}
		return err
	}))
}

// Receive writes documents, and how far the stream was read with them, in one transaction: so each message counts
// once, whenever we are killed. It leaves out documents that touch those of another host, and returns their indices.
func (c *Catalogue) Receive(ctx context.Context, upTo Position, documents []Received) (refused []int, err error) {
	if err := c.dir.InPlace(); err != nil {
		return nil, err
	}
	err = c.change(ctx, func(t *transaction) {
		refused = nil
		for i, d := range documents {
			if !t.receive(d) && t.err == nil {
				refused = append(refused, i)
			}
		}
		t.exec("INSERT INTO mirrors VALUES (?,?,?) ON CONFLICT (stream) DO UPDATE SET created = excluded.created, sequence = excluded.sequence",
			upTo.Stream, upTo.Created.UTC().Format(time.RFC3339Nano), upTo.Sequence)
	})
	return refused, err
}

// receive writes a document of a host, unless it would touch one of another host.
func (t *transaction) receive(r Received) bool {
	if t.host = r.Host; r.Host == "" {
		t.host = nil
	}
	for _, id := range references(r.Document) {
		if t.isForeign(id) {
			return false
		}
	}
	switch d := r.Document.(type) {
	case *event.Hit:
		return t.putHit(d)
	case event.Capture:
		return t.putCapture(d)
	case event.Trace:
		return t.putTrace(d)
	case event.Program:
		return t.putProgram(d)
	case event.Proof:
		return t.putProof(d)
	case event.Snapshot:
		return t.putSnapshot(d)
	case event.Loss:
		return t.putLoss(d)
	}
	return false
}

// references are the ids of other documents that a document names.
func references(document any) (ids []string) {
	add := func(refs ...*event.Reference) {
		for _, r := range refs {
			if r != nil {
				ids = append(ids, r.ID)
			}
		}
	}
	switch d := document.(type) {
	case *event.Hit:
		add(d.Culprit.Capture)
		for _, f := range d.Culprit.For() {
			add(&f.Reference)
		}
	case event.Capture:
		add(d.Culprit.FirstHit)
	case event.Trace:
		add(&d.Culprit.Capture, d.Culprit.Hit)
	case event.Program:
		add(&d.Culprit.Capture, d.Culprit.Trace)
	case event.Proof:
		add(&d.Culprit.Capture, &d.Culprit.Hit, &d.Culprit.Trace)
	case event.Snapshot:
		add(&d.Culprit.Capture, d.Culprit.Hit, d.Culprit.Trace)
	}
	return ids
}

// foreign asks whether a document with that id is of another host. The ids of others are not known to a host
// before they are in the stream, so what is named later cannot be foreign.
const foreign = `SELECT EXISTS (SELECT 1 FROM captures WHERE id = ?1 AND host IS NOT ?2) OR EXISTS (SELECT 1 FROM hits WHERE id = ?1 AND host IS NOT ?2)
	OR EXISTS (SELECT 1 FROM traces WHERE id = ?1 AND host IS NOT ?2)`

func (t *transaction) isForeign(id string) (is bool) {
	if t.err == nil {
		t.err = t.tx.Stmt(t.statements[foreign]).QueryRow(id, t.host).Scan(&is)
	}
	return is
}

// PutMember writes what a host said of itself.
func (c *Catalogue) PutMember(ctx context.Context, m Member) error {
	return c.change(ctx, func(t *transaction) {
		t.exec("INSERT OR REPLACE INTO members VALUES (?,?,?)", m.Host, m.Revision, string(m.Document))
	})
}

// RemoveMember forgets a host that is no member any more. Its documents stay.
func (c *Catalogue) RemoveMember(ctx context.Context, host string) error {
	return c.change(ctx, func(t *transaction) { t.exec("DELETE FROM members WHERE host = ?", host) })
}

// Members yields what the hosts last said of themselves, by name.
func (r *Reader) Members() iter.Seq2[Member, error] {
	return rows(r, "SELECT host, revision, doc FROM members ORDER BY host", nil, func(m *Member, scan func(...any) error) error {
		return scan(&m.Host, &m.Revision, &m.Document)
	})
}

// Hosts counts the hits of each host that the catalogue has documents of. It is empty outside a fleet.
func (r *Reader) Hosts() (map[string]int, error) {
	return r.counts("SELECT host, sum(n) FROM (SELECT host, count(*) AS n FROM hits WHERE host IS NOT NULL GROUP BY host UNION ALL SELECT host, 0 FROM captures WHERE host IS NOT NULL GROUP BY host) GROUP BY host")
}

// maxAsked bounds the hits that Asked counts.
const maxAsked = 50_000

// Asked counts the hits of each host of a fleet that ask for a name, or for a name below it: the newest 50,000.
func (r *Reader) Asked(name string) (map[string]int, error) {
	q, args := r.planned(Filter{Name: name, Last: maxAsked}).query("hits", "id, host")
	return r.counts("SELECT host, count(*) FROM ("+q+") WHERE host IS NOT NULL GROUP BY host", args...)
}
