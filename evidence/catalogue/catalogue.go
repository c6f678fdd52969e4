// Package catalogue keeps the catalogue of an evidence directory: hits, captures, traces,
// programs, proofs, snapshots and losses, and the events that wait to be sent out. All SQL is here.
package catalogue

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"culprit/evidence/directory"
	"culprit/internal/event"
	"culprit/internal/words"
)

// fileName is the file of the catalogue in the evidence directory. It is an ordinary
// SQLite 3 data base: `sqlite3 catalogue.db` can look at it too.
const fileName = "catalogue.db"

// suffixes tell SQLite's files of one data base apart.
var suffixes = []string{"", "-wal", "-shm", "-journal"}

// tables are those whose rows have an id and are removed when they are too old.
var tables = [...]string{"hits", "captures", "traces", "programs", "proofs", "losses", "snapshots"}

// Tables returns the tables of the catalogue from which a sweep removes rows.
func Tables() []string { return slices.Clone(tables[:]) }

// A Catalogue is a catalogue that is open for writing. Safe for concurrent use.
type Catalogue struct {
	dir    *directory.Directory
	log    *slog.Logger
	mirror bool // of a fleet: what runs runs elsewhere

	reading *sql.DB // other connections, so that long reads do not hold up the writer

	mu         sync.Mutex // held for a transaction
	db         *sql.DB
	statements map[string]*sql.Stmt
	outboxes   []*Outbox   // of the events that are sent out
	file       os.FileInfo // of the catalogue that we have open
	renewed    time.Time   // when we began a new one; zero: never
}

// Left is what an earlier culprit left behind.
type Left struct {
	Captures []event.Capture // that ran when it was killed; they are marked as lost
	Losses   []event.Loss    // for the caller to record
}

// Open opens or makes the catalogue of a directory, which must be locked. It sets a damaged
// catalogue aside and begins a new one. It marks as lost what a killed culprit left running. Each
// change adds an event to the outboxes. The caller closes the catalogue.
func Open(d *directory.Directory, outboxes []*Outbox, log *slog.Logger) (c *Catalogue, left Left, err error) {
	c = &Catalogue{dir: d, outboxes: outboxes, log: log}
	// SQLite opens its files by name, and would follow links.
	for _, suffix := range suffixes {
		if err := d.Plain(fileName + suffix); err != nil {
			return nil, left, err
		}
	}
	opened := c
	defer func() {
		if err != nil {
			opened.Close()
		}
	}()
	gap := unclean(d)
	left, err = c.open()
	if cause := err; isCorrupt(cause) {
		c.Close()
		aside, moveErr := c.setAside()
		if moveErr != nil {
			return nil, left, errors.Join(err, moveErr)
		}
		log.Error("the catalogue was damaged: it was set aside, and a new one begins", "aside", aside, "error", err)
		if left, err = c.open(); err == nil {
			left.Losses = append(left.Losses, damaged(aside, cause))
		}
	}
	if err == nil {
		c.file, err = d.Root().Lstat(fileName)
	}
	if err != nil {
		return nil, left, err
	}
	if gap != "" {
		log.Warn(words.Killed(gap))
		left.Losses = append(left.Losses, event.NewLoss(event.LossKilled, gap, 1))
	}
	return c, left, nil
}

// connect opens the data base.
func (c *Catalogue) connect() (err error) {
	if c.db, err = connect(c.dir.Path(), false); err != nil {
		return err
	}
	if c.statements, err = prepare(c.db); err != nil {
		return fmt.Errorf("open the catalogue: %w", err)
	}
	if c.reading, err = connect(c.dir.Path(), true); err != nil {
		return err
	}
	c.reading.SetConnMaxLifetime(time.Second) // another catalogue may take its place
	return nil
}

// open opens the catalogue, and marks what an earlier culprit left running.
func (c *Catalogue) open() (left Left, err error) {
	if err = c.connect(); err != nil {
		return left, err
	}
	if err := c.isOurs(); err != nil {
		return left, err
	}
	if err := c.passLatest(); err != nil {
		return left, err
	}
	for _, o := range c.outboxes {
		lost, err := o.open(c)
		if err != nil {
			return left, fmt.Errorf("look which events wait to be sent out: %w", err)
		}
		left.Losses = append(left.Losses, lost...)
	}
	if left.Captures, err = c.markLost(); err != nil {
		return left, fmt.Errorf("mark what an earlier culprit left running: %w", err)
	}
	return left, nil
}

// isOurs returns an error if the catalogue is the mirror of a fleet: what runs there does not run here.
func (c *Catalogue) isOurs() error {
	mirrors, err := c.own().Mirrors()
	if err == nil && len(mirrors) > 0 {
		err = fmt.Errorf("%s is the mirror of a fleet (%s), and cannot have the evidence of this machine: name another directory", c.dir.Path(), mirrors[0].Stream)
	}
	return err
}

// passLatest makes new ids come after those in the catalogue, even if the clock was set back.
func (c *Catalogue) passLatest() error {
	for _, table := range tables {
		var id sql.NullString
		if err := c.db.QueryRow("SELECT max(id) FROM " + table).Scan(&id); err != nil {
			return fmt.Errorf("look for the latest in the catalogue: %w", err)
		}
		event.NewIDsAfter(id.String)
	}
	return nil
}

// Reader returns a Reader that works beside the writer and is closed with the catalogue.
func (c *Catalogue) Reader() *Reader {
	return &Reader{db: c.reading, dir: c.dir.Path(), ctx: context.Background()}
}

// StopReading makes all reading fail from now on.
func (c *Catalogue) StopReading() { c.reading.Close() }

// Close closes the catalogue.
func (c *Catalogue) Close() error {
	var errs []error
	for _, db := range []*sql.DB{c.reading, c.db} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(errs...)
}

// change runs a transaction. It and its events are written as a whole or not at all.
func (c *Catalogue) change(ctx context.Context, f func(*transaction)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changeLocked(ctx, f)
}

func (c *Catalogue) changeLocked(ctx context.Context, f func(*transaction)) error {
	tx, err := c.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	t := &transaction{tx: tx, statements: c.statements}
	for _, o := range c.outboxes {
		t.events = append(t.events, o.begin())
	}
	f(t)
	for _, e := range t.events {
		e.tell(t)
	}
	for _, e := range t.events {
		e.end(t)
	}
	if t.err != nil {
		return t.err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	for _, e := range t.events {
		e.done()
	}
	return nil
}
