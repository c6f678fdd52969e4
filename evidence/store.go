// Package evidence keeps what was found: a catalogue of hits, captures, traces and
// losses, and the trace files, all in one directory that only root can read.
package evidence

import (
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"culprit/evidence/outlet"
	"culprit/internal/event"
	"culprit/internal/words"
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
	file    os.FileInfo // of the catalogue, while it is ours
	renewed time.Time   // when another one was begun; the writing goroutine's
	log     *slog.Logger
	reading *sql.DB // another connection: who reads much holds up no writer
	packer  *packer
	proving bool // by hand: who does that waits for all of it
	prover  *prover
	outlet  outlet.Outlet // nil: events are not sent out
	feed    *feed
	queue   chan any
	dropped atomic.Uint64 // hits and proofs that found the queue full
	counts  storeCounts
	written chan struct{} // closed when the writer has ended
}

type repeated struct {
	id    string
	count int
}

// An Option is something that not every Store does.
type Option func(*Store)

// SendTo has each hit, capture, trace, proof and loss sent out. The Store closes the
// outlet.
func SendTo(o outlet.Outlet) Option { return func(s *Store) { s.outlet = o } }

// Open makes or opens the evidence directory and its catalogue. What a daemon
// that was killed left running is marked as lost. One Store at a time can have a
// directory. The caller closes it.
func Open(dir string, log *slog.Logger, options ...Option) (_ *Store, err error) {
	s := &Store{log: log, queue: make(chan any, queueLength), written: make(chan struct{})}
	for _, o := range options {
		o(s)
	}
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
	for _, suffix := range catalogueFiles {
		if err := s.dir.plain(catalogueName + suffix); err != nil {
			return nil, err
		}
	}
	gap := s.dir.unclean()
	lost, err := s.openCatalogue()
	if cause := err; isCorrupt(cause) {
		for _, db := range []*sql.DB{s.db, s.reading} {
			if db != nil {
				db.Close()
			}
		}
		s.db, s.reading = nil, nil
		aside, moveErr := s.setAside()
		if moveErr != nil {
			return nil, errors.Join(err, moveErr)
		}
		log.Error("the catalogue was damaged: it is kept aside, and a new one begins", "aside", aside, "error", err)
		if lost, err = s.openCatalogue(); err == nil {
			s.queue <- damaged(aside, cause)
		}
	}
	if err == nil {
		s.file, err = s.dir.root.Lstat(catalogueName)
	}
	if err != nil {
		return nil, err
	}
	if gap != "" {
		log.Warn(words.Killed(gap))
		s.queue <- event.NewLoss(event.LossKilled, gap, 1)
	}
	if err := s.markLock(); err != nil {
		return nil, err
	}
	s.prover = newProver(func(change any) { s.offer(s.masked(change)) }, log)
	s.packer = newPacker(s)
	go s.write()
	s.feed.start()
	for _, c := range lost {
		s.queue <- packetsDue{c}
	}
	return s, nil
}

// Close writes what is queued and closes the store. Nothing may be recorded then.
func (s *Store) Close() error {
	s.prover.close()
	close(s.queue)
	<-s.written
	s.feed.close()
	s.packer.close(s.reading, !s.proving)
	return errors.Join(s.lock.Truncate(0), s.release())
}

func (s *Store) release() error {
	var errs []error
	if s.reading != nil {
		errs = append(errs, s.reading.Close())
	}
	if s.db != nil {
		errs = append(errs, s.db.Close())
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(append(errs, s.dir.Close())...)
}

// lockName is the file that the culprit has locked that runs with the evidence.
const lockName = "lock"

// lock takes the directory for us until the file is closed, however we end.
func lock(d *Directory) (*os.File, error) {
	f, err := d.root.OpenFile(lockName, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the evidence directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			pid, _ := Holder(d.Path())
			return nil, fmt.Errorf("lock the evidence directory %s: another culprit runs with it (PID %d): stop that one, or give this one another evidence.dir", d.Path(), pid)
		}
		return nil, fmt.Errorf("lock the evidence directory: %w", err)
	}
	return f, nil
}

// Hit records a hit. In a flood that the disk cannot follow hits are dropped; the
// catalogue then has a loss that counts them.
func (s *Store) Hit(h *event.Hit) {
	s.offer(s.masked(h))
	if h.Culprit.Capture != nil {
		s.prover.offer(h)
	}
}

// offer records something, or drops and counts it if too much waits for the disk.
func (s *Store) offer(change any) {
	select {
	case s.queue <- change:
	default:
		s.dropped.Add(1)
		s.counts.dropped.Add(1)
	}
}

// Capture records a new or changed capture.
func (s *Store) Capture(c event.Capture) { s.fact(c) }

// Trace records a new or changed trace.
func (s *Store) Trace(t event.Trace) { s.fact(t) }

// Program records a program.
func (s *Store) Program(p event.Program) { s.fact(p) }

// fact records what the prover must know, too.
func (s *Store) fact(change any) {
	change = s.masked(change)
	s.queue <- change
	s.prover.facts <- change
}

// Lost records a loss.
func (s *Store) Lost(l event.Loss) { s.queue <- l }

// Repeated records how often the packet of a hit was seen.
func (s *Store) Repeated(id string, count int) { s.queue <- repeated{id, count} }

// Create makes the file of a trace, mode 0600, and sets its File.Path. What is
// written to it is compared with the packets of hits.
func (s *Store) Create(t *event.Trace) (io.WriteCloser, error) {
	f, err := s.dir.create(filepath.Join(tracesDir, t.Culprit.Capture.ID), t)
	if err != nil {
		return nil, err
	}
	return s.prover.prove(t, f, s.dir.mask.Load()), nil
}

// write writes batches until the queue is closed.
func (s *Store) write() {
	defer close(s.written)
	timer := time.NewTimer(0)
	defer timer.Stop()
	retry := time.NewTicker(retryEvery)
	defer retry.Stop()
	batch, failing := newBatch(), false
	for open := true; open; {
		var first any
		select {
		case first, open = <-s.queue:
		case <-retry.C:
			if !failing {
				continue
			}
		}
		if first != nil {
			batch.add(first)
		}
		<-timer.C
		for more := open; more && batch.size() < batchSize; {
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
		err := s.writeBatch(batch)
		if err != nil && !failing {
			s.log.Error("the catalogue cannot be written: hits are counted, and what is lost is told once it can be", "error", err)
		}
		if err == nil && failing {
			s.log.Info("the catalogue can be written again")
		}
		if failing = err != nil; failing {
			batch = batch.kept()
			continue
		}
		for _, due := range batch.packets {
			s.pack(due.capture)
		}
		batch = newBatch()
	}
	if n := s.dropped.Load() + uint64(batch.size()); n > 0 {
		s.log.Error("culprit ends, and this could not be recorded", "count", n)
	}
}

// retryEvery is how soon what could not be written is tried again though nothing new
// is to be written.
const retryEvery = time.Second

// writeBatch writes a batch, and with it how much was lost before. If that fails, what
// the batch does not keep is lost, too.
func (s *Store) writeBatch(b *batch) error {
	lost := s.dropped.Swap(0)
	var told event.Loss
	if lost > 0 {
		told = event.NewLoss(event.LossUnrecorded, "", lost)
		b.add(told)
	}
	err := s.writeOnce(b)
	if err != nil {
		b.losses = slices.DeleteFunc(b.losses, func(l event.Loss) bool { return l.Event.ID == told.Event.ID })
		s.dropped.Add(lost + b.unkept())
		s.counts.dropped.Add(b.unkept())
		s.counts.failures.Add(1)
	}
	return err
}

// writeOnce writes a batch into the catalogue if it is where it should be, or into a new
// one if it is damaged.
func (s *Store) writeOnce(b *batch) error {
	if err := s.dir.there(); err != nil {
		return err
	}
	err := s.catalogueThere()
	if err == nil {
		err = b.write(s.writer)
	}
	if err == nil || !isCorrupt(err) && !errors.Is(err, errReplaced) {
		return err
	}
	aside, failed := s.renew(err)
	if failed != nil {
		return failed
	}
	b.add(damaged(aside, err))
	if n := s.writer.out.givenUp(); n > 0 {
		b.add(event.NewLoss(event.LossUnsent, "", n))
	}
	return b.write(s.writer)
}
