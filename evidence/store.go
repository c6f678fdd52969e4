// Package evidence keeps what was found: a catalogue of hits, captures, traces and
// losses, and the trace files, all in one directory that only root can read.
package evidence

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"culprit/internal/event"
)

// queueLength is how many changes may wait to be written: more than the burst that
// nflog.queue takes by default.
const queueLength = 40_000

// batchSize bounds the changes of one transaction, and writeEvery is how soon one may
// follow another: a single change is written at once, but in a flood, of which
// changes of the same trace or capture are a good part, the disk sees a few large
// transactions instead of many small ones. If we are killed, so much is lost.
const (
	batchSize  = 2048
	writeEvery = 50 * time.Millisecond
)

// Store is the daemon's side of an evidence directory, its only writer. Its
// methods can be called from several goroutines and do not wait for the disk.
type Store struct {
	dir     *Directory
	db      *sql.DB
	writer  *writer // of the writing goroutine
	lock    *os.File
	log     *slog.Logger
	queue   chan any
	dropped atomic.Uint64 // hits that found the queue full
	written chan struct{} // closed when the writer has ended
}

type repeated struct {
	id    string
	count int
}

// Open makes or opens the evidence directory and its catalogue. What a daemon
// that was killed left running is marked as lost. One Store at a time can have a
// directory. The caller closes it.
func Open(dir string, log *slog.Logger) (_ *Store, err error) {
	s := &Store{log: log, queue: make(chan any, queueLength), written: make(chan struct{})}
	if s.dir, err = OpenDirectory(dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.release()
		}
	}()
	if s.lock, err = lock(s.dir); err != nil {
		return nil, err
	}
	// SQLite opens its files by name.
	for _, suffix := range []string{"", "-wal", "-shm", "-journal"} {
		if err := s.dir.plain(catalogueName + suffix); err != nil {
			return nil, err
		}
	}
	if s.db, err = openCatalogue(s.dir.Path(), false); err != nil {
		return nil, err
	}
	if s.writer, err = newWriter(s.db); err != nil {
		return nil, fmt.Errorf("open the catalogue: %w", err)
	}
	if err := s.markLost(); err != nil {
		return nil, fmt.Errorf("mark what an earlier culprit left running: %w", err)
	}
	go s.write()
	return s, nil
}

// Close writes what is queued and closes the store. Nothing may be recorded then.
func (s *Store) Close() error {
	close(s.queue)
	<-s.written
	return s.release()
}

func (s *Store) release() error {
	var errs []error
	if s.db != nil {
		errs = append(errs, s.db.Close())
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(append(errs, s.dir.Close())...)
}

// lock takes the directory for us until the file is closed, however we end.
func lock(d *Directory) (*os.File, error) {
	f, err := d.root.OpenFile("lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the evidence directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock the evidence directory %s: another culprit runs with it: stop that one, or give this one another evidence.dir", d.Path())
		}
		return nil, fmt.Errorf("lock the evidence directory: %w", err)
	}
	return f, nil
}

// Hit records a hit. In a flood that the disk cannot follow hits are dropped; the
// catalogue then has a loss that counts them.
func (s *Store) Hit(h *event.Hit) {
	select {
	case s.queue <- h:
	default:
		s.dropped.Add(1)
	}
}

// Capture records a new or changed capture.
func (s *Store) Capture(c event.Capture) { s.queue <- c }

// Trace records a new or changed trace.
func (s *Store) Trace(t event.Trace) { s.queue <- t }

// Program records a program.
func (s *Store) Program(p event.Program) { s.queue <- p }

// Lost records a loss.
func (s *Store) Lost(l event.Loss) { s.queue <- l }

// Repeated records how often the packet of a hit was seen.
func (s *Store) Repeated(id string, count int) { s.queue <- repeated{id, count} }

// Create makes the file of a trace, mode 0600, and sets its File.Path.
func (s *Store) Create(t *event.Trace) (*os.File, error) {
	return s.dir.create(filepath.Join(tracesDir, t.Culprit.Capture.ID), t)
}

// write writes batches until the queue is closed.
func (s *Store) write() {
	defer close(s.written)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for first := range s.queue {
		batch := newBatch()
		batch.add(first)
		<-timer.C
		for more := true; more && batch.size() < batchSize; {
			select {
			case op, ok := <-s.queue:
				if more = ok; ok {
					batch.add(op)
				}
			default:
				more = false
			}
		}
		timer.Reset(writeEvery)
		if n := s.dropped.Swap(0); n > 0 {
			batch.add(event.NewLoss("hits not recorded: the catalogue could not be written fast enough", n))
		}
		if err := batch.write(s.writer); err != nil {
			s.log.Error("the catalogue cannot be written: hits and changes are lost", "lost", batch.size(), "error", err)
			s.dropped.Add(uint64(len(batch.hits))) // to be told once it can be
		}
	}
}

// batch is a set of changes for one transaction. Of what changed several times
// the last counts.
type batch struct {
	hits     []*event.Hit
	captures map[string]event.Capture
	traces   map[string]event.Trace
	programs []event.Program
	losses   []event.Loss
	repeats  []repeated
}

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
	case event.Loss:
		b.losses = append(b.losses, v)
	case repeated:
		b.repeats = append(b.repeats, v)
	default:
		panic(fmt.Sprintf("evidence: change of type %T", op))
	}
}

func (b *batch) size() int {
	return len(b.hits) + len(b.captures) + len(b.traces) + len(b.programs) + len(b.losses) + len(b.repeats)
}

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
		w.exec(insertHit, h.Event.ID, h.Rule.Name, uid, capture, h.Culprit.Count, document(h), h.Packet)
	}
	for _, r := range b.repeats {
		w.exec(countHit, r.count, r.id)
	}
	for id, c := range b.captures {
		w.exec(putCapture, id, ruleName(c.Rule), c.User.UID(), c.Culprit.State, document(c))
	}
	for id, t := range b.traces {
		var hit any
		if t.Culprit.Hit != nil {
			hit = t.Culprit.Hit.ID
		}
		w.exec(putTrace, id, ruleName(t.Rule), t.User.UID(), t.Culprit.Capture.ID, hit, t.Culprit.State, document(t))
	}
	for _, p := range b.programs {
		w.exec(putProgram, p.Event.ID, p.User.UID(), p.Culprit.Capture.ID, document(p))
	}
	for _, l := range b.losses {
		w.exec(insertLoss, l.Event.ID, l.Culprit.What, l.Culprit.Count, document(l))
	}
	if w.err != nil {
		return w.err
	}
	return w.tx.Commit()
}

// writer runs the statements of a transaction until the first error. It prepares
// each only once.
type writer struct {
	db         *sql.DB
	statements map[string]*sql.Stmt
	tx         *sql.Tx
	err        error
}

// The statements that change the catalogue.
const (
	insertHit  = "INSERT INTO hits VALUES (?,?,?,?,?,?,?)"
	countHit   = "UPDATE hits SET count = ? WHERE id = ?"
	putCapture = "INSERT OR REPLACE INTO captures VALUES (?,?,?,?,?)"
	putTrace   = "INSERT OR REPLACE INTO traces VALUES (?,?,?,?,?,?,?)"
	putProgram = "INSERT OR REPLACE INTO programs VALUES (?,?,?,?)"
	insertLoss = "INSERT INTO losses VALUES (?,?,?,?)"
)

func newWriter(db *sql.DB) (*writer, error) {
	w := &writer{db: db, statements: map[string]*sql.Stmt{}}
	for _, query := range []string{insertHit, countHit, putCapture, putTrace, putProgram, insertLoss} {
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

// killed is why what markLost finds has ended.
const killed = "culprit was killed"

// markLost marks captures and traces that no daemon is running any more.
func (s *Store) markLost() error {
	const because = killed
	r := &Reader{db: s.db}
	batch := newBatch()
	for c, err := range r.Captures(Filter{unfinished: true}) {
		if err != nil {
			return err
		}
		c.Culprit.State, c.Culprit.EndedBecause = event.StateLost, because
		batch.add(c)
	}
	for t, err := range r.Traces(Filter{unfinished: true}) {
		if err != nil {
			return err
		}
		t.Culprit.State, t.Culprit.EndedBecause = event.StateLost, because
		if size, err := s.dir.markPartial(t.File.Path, because); err == nil {
			t.File.Size = size
		}
		batch.add(t)
	}
	if err := batch.write(s.writer); err != nil {
		return err
	}
	return s.adoptOrphans()
}

// adoptOrphans puts trace files into the catalogue whose daemon was killed before
// it could do that itself, and marks them.
func (s *Store) adoptOrphans() error {
	r := &Reader{db: s.db}
	known := map[string]bool{}
	for t, err := range r.Traces(Filter{}) {
		if err != nil {
			return err
		}
		known[t.Event.ID] = true
	}
	captures := map[string]event.Capture{}
	for c, err := range r.Captures(Filter{}) {
		if err != nil {
			return err
		}
		captures[c.Event.ID] = c
	}
	batch := newBatch()
	err := fs.WalkDir(s.dir.root.FS(), tracesDir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return nil // it is not there, or not ours
		}
		pid, id, ok := parseName(path.Base(name))
		if !ok || known[id.String()] {
			return nil
		}
		file := filepath.Join(s.dir.Path(), name)
		size, err := s.dir.markPartial(file, killed)
		if err != nil {
			return nil
		}
		c := captures[path.Base(path.Dir(name))]
		c.Event.ID = path.Base(path.Dir(name))
		start := id.Timestamp()
		batch.add(event.Trace{
			Timestamp: start,
			Event:     event.Meta{ID: id.String(), Kind: "event", Action: event.ActionTrace, Start: &start},
			Rule:      c.Rule, User: c.User,
			Process: event.Process{PID: pid},
			File:    event.File{Path: file, Size: size},
			Culprit: event.TraceDetail{
				Capture: event.Reference{ID: c.Event.ID}, Hit: c.Culprit.FirstHit,
				State: event.StateLost, EndedBecause: killed, Lost: 0,
			},
		})
		return nil
	})
	if err != nil {
		return err
	}
	return batch.write(s.writer)
}

// markPartial adds to a trace file that it is not complete, and returns its size.
func (d *Directory) markPartial(path, because string) (int64, error) {
	name, err := filepath.Rel(d.Path(), path)
	if err != nil {
		return 0, err
	}
	f, err := d.root.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	fmt.Fprintf(f, "\n# ended: %s: this trace is partial\n", because)
	return f.Seek(0, 2)
}
