// Package prover finds the lines of traces that sent the packets of hits, while the traces
// are written or afterwards.
package prover

import (
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"culprit/evidence/proof"
	"culprit/internal/event"
)

// A Prover finds the lines that sent the packets of hits while the traces are written. One
// goroutine owns its state. Nobody waits for it: what it cannot compare in a flood, which
// somebody may have made for that, is counted and can be compared by [Again].
type Prover struct {
	mail      *mailbox
	out       Output
	processes Processes
	log       *slog.Logger
	limit     *rate.Limiter // of log lines about proofs
	done      chan struct{}

	captures map[string]*comparison // that run, by id; of look-backs without one, by that of the trace
	lost     uint64                 // what was not compared and not recorded as a loss yet

	proofs, kernel, probable, uncompared atomic.Uint64
}

// An Output takes what a Prover finds. Its methods must not wait.
type Output interface {
	// Proof takes a proof, or a better one with the same id.
	Proof(event.Proof)
	Lost(event.Loss)
	// Settled takes a capture that ended, after its last proof.
	Settled(event.Capture)
}

// Processes looks at the processes of the machine.
type Processes interface {
	// Process describes the process whose main thread tid is. !ok: there is none.
	Process(tid int) (event.Process, bool)
}

// comparison is what the prover knows of a capture.
type comparison struct {
	late    bool // of one look-back: it ends with that
	matcher *proof.Matcher
	traces  map[string]event.Trace
	ended   []endedTrace // the traces that have ended, oldest first
	// programs holds the latest programs that have ended, by PID.
	programs map[int]event.Program
	// unnamed holds proofs whose process is not sure, by thread: it may be a thread of the
	// trace's process, or a child that strace followed and that soon ends as a program.
	unnamed map[int][]event.Proof
}

// endedTrace is a trace that is forgotten together with its lines.
type endedTrace struct {
	id string
	at time.Time
}

// forgetAfter is when a trace that has ended is forgotten: a hit waits for a second.
const forgetAfter = 15 * time.Second

// Bounds of a comparison.
const (
	maxNamed    = 1024 // programs, and threads with unnamed proofs
	maxOfThread = 16   // unnamed proofs of a thread
)

// proofsLogged is how many proofs are logged a second.
const proofsLogged = 20

// New starts a Prover. The caller closes it.
func New(out Output, processes Processes, log *slog.Logger) *Prover {
	p := &Prover{
		mail: newMailbox(), out: out, processes: processes, log: log, limit: rate.NewLimiter(proofsLogged, proofsLogged),
		done: make(chan struct{}), captures: map[string]*comparison{},
	}
	go p.run()
	return p
}

// Hit takes a hit. Without a capture there is nothing to compare it with.
func (p *Prover) Hit(h *event.Hit) {
	if h.Culprit.Capture != nil {
		p.mail.compare(hitNews{h})
	}
}

// Back takes a hit whose look-back is about to be written: the hit may have no capture, or its
// capture may have ended while it waited.
func (p *Prover) Back(h *event.Hit, trace string) { p.mail.compare(backNews{h, trace}) }

// Capture takes a new or changed capture.
func (p *Prover) Capture(c event.Capture) {
	if c.Culprit.State == event.StateEnded {
		p.mail.end(endedNews{c})
	}
}

// Trace takes a new or changed trace.
func (p *Prover) Trace(t event.Trace) { p.mail.fact(traceNews{t}) }

// Program takes a program.
func (p *Prover) Program(program event.Program) { p.mail.fact(programNews{program}) }

// Counts says what a Prover found.
type Counts struct {
	Proofs     uint64 // certain, by bytes
	Kernel     uint64 // certain, by the kernel's word
	Probable   uint64
	Uncompared uint64 // hits and system calls
}

// Counts returns what was found until now. Safe for concurrent use.
func (p *Prover) Counts() Counts {
	return Counts{p.proofs.Load(), p.kernel.Load(), p.probable.Load(), p.uncompared.Load()}
}

// Close waits until everything is compared. The other methods must not be called after it.
func (p *Prover) Close() {
	p.mail.close()
	<-p.done
}

// settleEvery is how often the prover looks for hits that have waited long enough.
const settleEvery = 250 * time.Millisecond

func (p *Prover) run() {
	defer close(p.done)
	timer := time.NewTimer(settleEvery)
	timer.Stop()
	waiting := false
	for {
		select {
		case <-p.mail.wake:
		case now := <-timer.C:
			waiting = false
			p.settle(now)
			p.recordLost()
		}
		all, lost, last := p.mail.take()
		p.lost += lost
		for _, n := range all {
			n.handle(p)
		}
		if last {
			for _, c := range p.captures {
				p.finish(c)
			}
			p.recordLost()
			return
		}
		if !waiting && (len(p.captures) > 0 || p.lost > 0) {
			waiting = true
			timer.Reset(settleEvery)
		}
	}
}

// settle proves hits that have waited long enough, and forgets traces that ended.
func (p *Prover) settle(now time.Time) {
	for _, c := range p.captures {
		if c.late { // its hit may be older than any that waits
			continue
		}
		p.found(c, c.matcher.Tick(now))
		for len(c.ended) > 0 && now.Sub(c.ended[0].at) > forgetAfter {
			delete(c.traces, c.ended[0].id)
			c.ended = c.ended[1:]
		}
	}
}

// key returns the key of the comparison to which the lines of a trace go: that of its capture, or its own
// if it is a look-back whose capture has ended, or never was.
func (p *Prover) key(t *event.Trace) string {
	if capture := t.Culprit.Capture.ID; t.Culprit.LookBack == nil || p.captures[capture] != nil {
		return capture
	}
	return t.Event.ID
}

// comparison returns the one with that key, which is made when it is first needed.
func (p *Prover) comparison(id string) *comparison {
	c := p.captures[id]
	if c == nil {
		c = &comparison{matcher: proof.NewMatcher(), traces: map[string]event.Trace{}, programs: map[int]event.Program{}, unnamed: map[int][]event.Proof{}}
		p.captures[id] = c
	}
	return c
}

// found records proofs.
func (p *Prover) found(c *comparison, matches []proof.Match) {
	for _, m := range matches {
		pr := newProof(c.traces[m.Trace], m)
		switch {
		case m.Probable:
			p.probable.Add(1)
		case m.Kernel:
			p.kernel.Add(1)
		default:
			p.proofs.Add(1)
		}
		if tid := pr.Culprit.TID; !named(&pr, m) && !setProgram(&pr, c.programs[tid]) && !p.describe(&pr) && len(c.unnamed) < maxNamed && len(c.unnamed[tid]) < maxOfThread {
			c.unnamed[tid] = append(c.unnamed[tid], pr)
		}
		p.out.Proof(pr)
		if !p.limit.Allow() {
			continue
		}
		d := &pr.Culprit
		p.log.Info("proven", slog.Group("culprit", "capture", d.Capture.ID, "hit", d.Hit.ID, "trace", d.Trace.ID,
			"tid", d.TID, "syscall", d.Syscall, "line", d.Line, "parts", len(d.Parts), "probable", d.Probable, "kernel", d.Kernel),
			slog.Group("process", "pid", pr.Process.PID, "command_line", pr.Process.CommandLine),
			slog.Group("file", "path", pr.File.Path))
	}
}

// finish takes the last proofs of a capture, and counts what was not compared.
func (p *Prover) finish(c *comparison) {
	p.found(c, c.matcher.Close())
	lost := c.matcher.Lost()
	p.lost += uint64(lost.Sends + lost.Hits)
}

// recordLost records how much was not compared since it was last called.
func (p *Prover) recordLost() {
	if p.lost > 0 {
		p.uncompared.Add(p.lost)
		p.out.Lost(event.NewLoss(event.LossUncompared, "", p.lost))
		p.lost = 0
	}
}

// comparedFile is the file of a trace whose lines are compared with packets as they
// come, before anything in them is masked.
type comparedFile struct {
	io.WriteCloser
	scanner *proof.Scanner
	lose    func(uint64)
}

// Compare returns a file for a trace that passes everything on to the given file, which masks.
func (p *Prover) Compare(t *event.Trace, file io.WriteCloser) io.WriteCloser {
	of := *t
	return &comparedFile{file, newScanner(t, func(s proof.Send) { p.mail.compare(sendNews{&of, s}) }), p.mail.lose}
}

// newScanner returns a scanner of a trace's lines.
func newScanner(t *event.Trace, send func(proof.Send)) *proof.Scanner {
	lookBack := t.Culprit.LookBack != nil
	return proof.NewScanner(func(s proof.Send) {
		s.Returned = lookBack
		send(s)
	})
}

func (f *comparedFile) Write(b []byte) (int, error) {
	n, err := f.WriteCloser.Write(b)
	f.scanner.Write(b[:n])
	return n, err
}

func (f *comparedFile) Close() error {
	f.scanner.Close()
	if lost := f.scanner.Lost(); lost != (proof.ScannerLost{}) {
		f.lose(uint64(lost.LongLines + lost.Unfinished))
	}
	return f.WriteCloser.Close()
}
