// Package catalogue keeps the catalogue of an evidence directory: hits, captures, traces,
// programs, proofs and losses, and the events that wait to be sent out. All SQL is here.
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
var tables = [...]string{"hits", "captures", "traces", "programs", "proofs", "losses"}

// Tables returns the tables of the catalogue from which a sweep removes rows.
func Tables() []string { return slices.Clone(tables[:]) }

// A Catalogue is a catalogue that is open for writing. Safe for concurrent use.
type Catalogue struct {
	dir *directory.Directory
	log *slog.Logger

	reading *sql.DB // other connections, so that long reads do not hold up the writer

	mu         sync.Mutex // held for a transaction
	db         *sql.DB
	statements map[string]*sql.Stmt
	outbox     *Outbox     // nil: events are not sent out
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
// change adds an event to the outbox, unless that is nil. The caller closes the catalogue.
func Open(d *directory.Directory, outbox *Outbox, log *slog.Logger) (c *Catalogue, left Left, err error) {
	c = &Catalogue{dir: d, outbox: outbox, log: log}
	// SQLite opens its files by name, and would follow links.
	for _, suffix := range suffixes {
		if err := d.Plain(fileName + suffix); err != nil {
			return nil, left, err
		}
	}
	defer func() {
		if err != nil {
			c.Close()
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

// open opens the catalogue, and marks what an earlier culprit left running.
func (c *Catalogue) open() (left Left, err error) {
	if c.db, err = connect(c.dir.Path(), false); err != nil {
		return left, err
	}
	if c.statements, err = prepare(c.db); err != nil {
		return left, fmt.Errorf("open the catalogue: %w", err)
	}
	if c.reading, err = connect(c.dir.Path(), true); err != nil {
		return left, err
	}
	c.reading.SetConnMaxLifetime(time.Second) // another catalogue may take its place
	if err := c.passLatest(); err != nil {
		return left, err
	}
	if left.Losses, err = c.outbox.open(c); err != nil {
		return left, fmt.Errorf("look which events wait to be sent out: %w", err)
	}
	if left.Captures, err = c.markLost(); err != nil {
		return left, fmt.Errorf("mark what an earlier culprit left running: %w", err)
	}
	return left, nil
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
func (c *Catalogue) Reader() *Reader { return &Reader{db: c.reading, dir: c.dir.Path()} }

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
	t := &transaction{tx: tx, statements: c.statements, events: c.outbox.begin()}
	f(t)
	c.outbox.end(t)
	if t.err != nil {
		return t.err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	c.outbox.done(t.events)
	return nil
}
