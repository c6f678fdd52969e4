// Package evidence keeps what was found: a catalogue of hits, captures, traces and
// losses, and the trace files, all in one directory that only root can read. The parts
// are packages of their own; here is the Store, which the daemon writes to.
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

// Store is the daemon's side of an evidence directory, its only writer. Its
// methods can be called from several goroutines and do not wait for the disk. What is
// recorded is not changed, and must not be changed by others any more.
type Store struct {
	dir       *directory.Directory
	catalogue *catalogue.Catalogue
	prover    *prover.Prover
	packer    *dossier.Packer
	outlet    outlet.Outlet     // nil: events are not sent out
	outbox    *catalogue.Outbox // nil, too
	sender    *outlet.Sender    // nil, too
	log       *slog.Logger

	mail     *mailbox
	failures atomic.Uint64
	written  chan struct{} // closed when the writing loop has ended
	patient  bool          // somebody waits for all the packets files
}

// An Option is something that not every Store does.
type Option func(*Store)

// SendTo has each hit, capture, trace, proof and loss sent out. The Store closes the
// outlet.
func SendTo(o outlet.Outlet) Option {
	return func(s *Store) { s.outlet, s.outbox = o, catalogue.NewOutbox(o.Taken()) }
}

// Masking masks what the patterns match from the beginning, see [Store.Redact].
func Masking(p *redact.Patterns) Option {
	return func(s *Store) { s.dir.Redact(p) }
}

// Open makes or opens the evidence directory and its catalogue. What a daemon
// that was killed left running is marked as lost. One Store at a time can have a
// directory. The caller closes it.
func Open(dir string, log *slog.Logger, options ...Option) (_ *Store, err error) {
	s := &Store{log: log, mail: newMailbox(), written: make(chan struct{})}
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
	if s.catalogue, left, err = catalogue.Open(s.dir, s.outbox, log); err != nil {
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
	if s.outlet != nil {
		s.sender = outlet.NewSender(s.outlet, s.outbox, log)
	}
	go s.write()
	return s, nil
}

// packsLonger is how long packing may take when culprit ends. What is not done is in the
// catalogue, and in an export.
const packsLonger = 3 * time.Second

// Close writes what is queued and closes the store. Nothing may be recorded then.
func (s *Store) Close() error {
	s.prover.Close()
	s.mail.close()
	<-s.written
	if s.sender != nil {
		s.sender.Close()
	}
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

// Hit records a hit. In a flood that the disk cannot follow hits are dropped; the
// catalogue then has a loss that counts them.
func (s *Store) Hit(h *event.Hit) {
	masked := maskHit(s.dir.Mask(), h)
	s.mail.put(func(p *pending) { p.Hit(masked) })
	s.prover.Hit(masked)
}

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

// Program records a program. Like hits, those that are too many are dropped.
func (s *Store) Program(program event.Program) {
	program = maskProgram(s.dir.Mask(), program)
	s.mail.put(func(p *pending) { p.Program(program) })
	s.prover.Program(program)
}

// Lost records a loss.
func (s *Store) Lost(l event.Loss) { s.mail.put(func(p *pending) { p.Loss(l) }) }

// Create makes the file of a trace, mode 0600, and sets its File.Path. What is
// written to it is compared with the packets of hits.
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

// Sweeper makes what keeps the store within bounds. Each sweep of its Run is told of,
// unless told is nil. It must not be used once the store is closed.
func (s *Store) Sweeper(b retention.Bounds, told func(retention.Report, error)) *retention.Sweeper {
	return retention.New(s.dir, s.catalogue.Reader(), s.catalogue, b, told, s.log)
}

// Prove looks once more for the lines that sent the packets of hits; see [prover.Again].
func (s *Store) Prove(capture string) (prover.Checked, error) {
	s.patient = true
	return prover.Again(s.catalogue.Reader(), capture, findings{s})
}

// findings takes what is found out of hits and traces.
type findings struct{ s *Store }

func (f findings) Proof(proof event.Proof) {
	maskProcess(f.s.dir.Mask(), &proof.Process)
	f.s.mail.put(func(p *pending) { p.Proof(proof) })
}

func (f findings) Lost(l event.Loss) { f.s.Lost(l) }

func (f findings) Settled(c event.Capture) { f.s.mail.put(func(p *pending) { p.settle(c) }) }
