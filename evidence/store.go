// Package evidence keeps what was found: a catalogue of hits, captures, traces and losses, and the
// trace files, in one directory that only root can read. Each part is a package of its own. This
// one has the Store that the daemon writes to.
package evidence

import (
	"errors"
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"culprit/evidence/catalogue"
	"culprit/evidence/directory"
	"culprit/evidence/dossier"
	"culprit/evidence/outlet"
	"culprit/evidence/prover"
	"culprit/evidence/retention"
	"culprit/internal/event"
	"culprit/internal/redact"
)

// Store is the only writer of an evidence directory. The methods that record are safe for
// concurrent use and do not wait for the disk. Nobody may change a document after recording it.
type Store struct {
	dir       *directory.Directory
	catalogue *catalogue.Catalogue
	prover    *prover.Prover
	packer    *dossier.Packer
	events    feed
	fleet     feed
	log       *slog.Logger

	mail     *mailbox
	failures atomic.Uint64
	written  chan struct{} // closed when the writing loop has ended
	patient  bool          // Close waits for all packets files
	proven   func([]string)
}

// An Option is something that only some Stores do.
type Option func(*Store)

// SendTo sends each hit, capture, trace, proof and loss to an outlet, which the Store closes.
func SendTo(o outlet.Outlet) Option {
	return func(s *Store) { s.events.outlet, s.events.outbox = o, catalogue.NewOutbox(o.Taken()) }
}

// SendToFleet sends all documents to the outlet of a fleet, where this machine is called host. waiting bounds those that wait for it, in
// bytes. The Store closes the outlet.
func SendToFleet(host string, waiting int64, open func(*catalogue.Outbox) outlet.Outlet) Option {
	return func(s *Store) {
		s.fleet.outbox = catalogue.NewFleetOutbox(host, waiting)
		s.fleet.outlet = open(s.fleet.outbox)
	}
}

// Proven tells of which captures proofs have just been written. It must not wait.
func Proven(tell func(captures []string)) Option {
	return func(s *Store) { s.proven = tell }
}

// Masking is [Store.Redact] from the first line on.
func Masking(p *redact.Patterns) Option {
	return func(s *Store) { s.dir.Redact(p) }
}

// Open makes or opens an evidence directory and its catalogue. It marks as lost what a killed
// daemon left running. Only one Store can have a directory open. The caller closes it.
func Open(dir string, log *slog.Logger, options ...Option) (_ *Store, err error) {
	s := &Store{log: log, mail: newMailbox(), written: make(chan struct{}), proven: func([]string) {}}
	if s.dir, err = directory.Open(dir); err != nil {
		return nil, err
	}
	for _, o := range options {
		o(s)
	}
	defer func() {
		if err != nil {
			s.release()
		}
	}()
	if err := s.dir.Lock(); err != nil {
		return nil, err
	}
	var left catalogue.Left
	if s.catalogue, left, err = catalogue.Open(s.dir, s.outboxes(), log); err != nil {
		return nil, err
	}
	if err := s.dir.NoteRunning(); err != nil {
		return nil, err
	}
	s.mail.put(func(p *pending) {
		for _, l := range left.Losses {
			p.Loss(l)
		}
		p.settle(left.Captures...)
	})
	s.prover = prover.New(findings{s}, new(prover.Proc), log)
	s.packer = dossier.NewPacker(s.dir, s.catalogue.Reader(), log)
	s.events.start(s.Lost, event.LossUnwanted, log)
	s.fleet.start(s.Lost, event.LossUnsentFleet, log.With("to", "fleet"))
	go s.write()
	return s, nil
}

// packsLonger is how long writing packets files may go on when culprit ends. The packets are in
// the catalogue, and in an export, too.
const packsLonger = 3 * time.Second

// Close writes what waits and closes the store. Nothing may be recorded after it.
func (s *Store) Close() error {
	s.prover.Close()
	s.mail.close()
	<-s.written
	s.closeFeeds()
	if !s.patient {
		defer time.AfterFunc(packsLonger, s.catalogue.StopReading).Stop()
	}
	s.packer.Close()
	return errors.Join(s.dir.NoteEnded(), s.release())
}

func (s *Store) release() error {
	var err error
	if s.catalogue != nil {
		err = s.catalogue.Close()
	}
	return errors.Join(err, s.dir.Close())
}

// Hit records a hit. In a flood that is too fast for the disk, hits are dropped and counted as a
// loss in the catalogue.
func (s *Store) Hit(h *event.Hit) {
	masked := maskHit(s.dir.Mask(), h)
	s.mail.put(func(p *pending) { p.Hit(masked) })
	s.prover.Hit(masked)
}

// Back compares a hit with its look-back, the trace with that id, which is about to be written.
func (s *Store) Back(h *event.Hit, trace string) { s.prover.Back(maskHit(s.dir.Mask(), h), trace) }

// Repeated records how often the packet of a hit was seen.
func (s *Store) Repeated(id string, count int) {
	s.mail.put(func(p *pending) { p.Repeated(id, count) })
}

// Capture records a new or changed capture.
func (s *Store) Capture(c event.Capture) {
	c = maskCapture(s.dir.Mask(), c)
	s.mail.put(func(p *pending) { p.Capture(c) })
	s.prover.Capture(c)
}

// Trace records a new or changed trace.
func (s *Store) Trace(t event.Trace) {
	maskProcess(s.dir.Mask(), &t.Process)
	s.mail.put(func(p *pending) { p.Trace(t) })
	s.prover.Trace(t)
}

// Program records a program. In a flood programs are dropped, like hits.
func (s *Store) Program(program event.Program) {
	program = maskProgram(s.dir.Mask(), program)
	s.mail.put(func(p *pending) { p.Program(program) })
	s.prover.Program(program)
}

// Snapshot records a snapshot, and again what has been learnt of it since. In a flood snapshots
// are dropped, like hits.
func (s *Store) Snapshot(snapshot event.Snapshot) {
	snapshot = maskSnapshot(s.dir.Mask(), snapshot)
	s.mail.put(func(p *pending) { p.Snapshot(snapshot) })
}

// Executable returns the copy of the executable with that SHA-256, if there is one.
func (s *Store) Executable(sha256 string) (event.File, bool) { return s.dir.Executable(sha256) }

// KeepExecutable copies an executable of at most that many bytes; see
// [directory.Directory.KeepExecutable].
func (s *Store) KeepExecutable(content io.Reader, most int64) (sha256 string, file event.File, err error) {
	return s.dir.KeepExecutable(content, most)
}

// Lost records a loss.
func (s *Store) Lost(l event.Loss) { s.mail.put(func(p *pending) { p.Loss(l) }) }

// Create makes the file of a trace, mode 0600, and sets File.Path of the trace. What is written to
// the file is compared with the packets of hits.
func (s *Store) Create(t *event.Trace) (io.WriteCloser, error) {
	f, err := s.dir.CreateInCapture(t)
	if err != nil {
		return nil, err
	}
	return s.prover.Compare(t, f), nil
}

// Redact sets what is masked: in traces that begin from now on, and in command lines.
// Safe for concurrent use.
func (s *Store) Redact(p *redact.Patterns) { s.dir.Redact(p) }

// Sweeper makes a Sweeper that keeps the store within bounds; see [retention.New]. It must not be
// used after Close.
func (s *Store) Sweeper(b retention.Bounds, swept func(retention.Report, error)) *retention.Sweeper {
	return retention.New(s.dir, s.catalogue.Reader(), s.catalogue, b, swept, s.log)
}

// Prove looks once more for the lines that sent the packets of hits; see [prover.Again].
func (s *Store) Prove(capture string) (prover.Checked, error) {
	s.patient = true
	return prover.Again(s.catalogue.Reader(), capture, findings{s})
}

// findings records what the prover finds.
type findings struct{ s *Store }

func (f findings) Proof(proof event.Proof) {
	maskProcess(f.s.dir.Mask(), &proof.Process)
	f.s.mail.put(func(p *pending) { p.Proof(proof) })
}

func (f findings) Lost(l event.Loss) { f.s.Lost(l) }

func (f findings) Settled(c event.Capture) { f.s.mail.put(func(p *pending) { p.settle(c) }) }

// Counts says what a Store has done since it was opened.
type Counts struct {
	Waiting  int    // changes in the mailbox, not written yet
	Dropped  uint64 // hits, proofs, programs and snapshots that could not be written, or not in time
	Failures uint64 // transactions that failed

	Proofs     uint64 // certain proofs, by bytes
	Kernel     uint64 // certain proofs, by the kernel's word
	Probable   uint64 // probable proofs
	Uncompared uint64 // hits and system calls that were not compared

	Unsent  int64  // events that wait to be sent out
	Lost    uint64 // events that had no room as too many waited, or whose catalogue was set aside
	Refused uint64 // events that their destination will never take

	FleetUnsent int64 // the same of the fleet's events
	FleetLost   uint64
}

// Counts returns the counts so far. Safe for concurrent use; it waits for nothing.
func (s *Store) Counts() Counts {
	c := Counts{Waiting: int(s.mail.waiting.Load()), Dropped: s.mail.dropped.Load(), Failures: s.failures.Load(), Refused: s.events.refused.Load()}
	found := s.prover.Counts()
	c.Proofs, c.Kernel, c.Probable, c.Uncompared = found.Proofs, found.Kernel, found.Probable, found.Uncompared
	c.Unsent, c.Lost = s.events.counts()
	c.FleetUnsent, c.FleetLost = s.fleet.counts()
	c.FleetLost += s.fleet.refused.Load()
	return c
}
