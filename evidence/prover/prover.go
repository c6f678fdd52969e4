// Package prover finds the lines of traces that sent the packets of hits, while the traces
// are written or afterwards.
package prover

import (
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"culprit/evidence/proof"
	"culprit/internal/event"
)

// A Prover finds, while traces are written, the lines that sent the packets of hits.
// Its goroutine owns all that it knows. Nobody waits until it has compared anything:
// what it does not get done, in a flood that somebody may have made for that, is
// counted, and can be done by [Again].
type Prover struct {
	mail      *mailbox
	out       Output
	processes Processes
	log       *slog.Logger
	limit     *rate.Limiter // of log lines about proofs
	done      chan struct{}

	captures map[string]*comparison // by id, of those that live

	proofs, probable, uncompared atomic.Uint64
}

// An Output takes what a Prover finds. Its methods must not wait.
type Output interface {
	// Proof takes a proof; or a better one with the same id.
	Proof(event.Proof)
	Lost(event.Loss)
	// Settled takes a capture that ended and of which nothing more will be proven.
	Settled(event.Capture)
}

// Processes looks at the processes of the machine.
type Processes interface {
	// Process describes the process that a thread is the first of, if it is one.
	Process(tid int) (event.Process, bool)
}

// comparison is what the prover knows of a capture.
type comparison struct {
	matcher *proof.Matcher
	traces  map[string]event.Trace
	ended   []endedTrace // of them, the oldest first
	// programs are the last of those that have ended, by PID, and unnamed the proofs,
	// by thread, of which the process is not sure: a thread of the trace's process, or
	// a process that strace followed from it and that is listed as a program soon.
	programs map[int]event.Program
	unnamed  map[int][]event.Proof
}

// endedTrace is a trace that is forgotten when its lines are, too.
type endedTrace struct {
	id string
	at time.Time
}

// forgetAfter is when a trace that has ended is forgotten: a hit waits for a second.
const forgetAfter = 15 * time.Second

// maxNamed bounds each of the two, and maxOfThread the proofs of one thread.
const (
	maxNamed    = 1024
	maxOfThread = 16
)

// proofsLogged is how many proofs are logged a second.
const proofsLogged = 20

// New begins to prove. The caller closes the Prover.
func New(out Output, processes Processes, log *slog.Logger) *Prover {
	p := &Prover{
		mail: newMailbox(), out: out, processes: processes, log: log, limit: rate.NewLimiter(proofsLogged, proofsLogged),
		done: make(chan struct{}), captures: map[string]*comparison{},
	}
	go p.run()
	return p
}

// Hit tells of a hit. It is compared if it has a capture.
func (p *Prover) Hit(h *event.Hit) {
	if h.Culprit.Capture != nil {
		p.mail.compare(hitNews{h})
	}
}

// Capture tells of a new or changed capture.
func (p *Prover) Capture(c event.Capture) {
	if c.Culprit.State == event.StateEnded {
		p.mail.end(endedNews{c})
	}
}

// Trace tells of a new or changed trace.
func (p *Prover) Trace(t event.Trace) { p.mail.fact(traceNews{t}) }

// Program tells of a program.
func (p *Prover) Program(program event.Program) { p.mail.fact(programNews{program}) }

// Counts are how many proofs were found, with certainty and not, and how many hits and
// system calls were not compared with each other.
func (p *Prover) Counts() (proofs, probable, uncompared uint64) {
	return p.proofs.Load(), p.probable.Load(), p.uncompared.Load()
}

// Close waits until all that was told is compared. Nothing may be told then.
func (p *Prover) Close() {
	p.mail.close()
	<-p.done
}

// settleEvery is how often hits are looked at that wait for the send that fits best.
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
			p.tellLost()
		}
		all, last := p.mail.take()
		for _, n := range all {
			n.tell(p)
		}
		if last {
			p.tellLost()
			for _, c := range p.captures {
				p.found(c, c.matcher.Close())
			}
			return
		}
		if len(p.captures) > 0 && !waiting {
			waiting = true
			timer.Reset(settleEvery)
		}
	}
}

// settle decides what has waited long enough, and forgets traces that ended.
func (p *Prover) settle(now time.Time) {
	for _, c := range p.captures {
		p.found(c, c.matcher.Tick(now))
		for len(c.ended) > 0 && now.Sub(c.ended[0].at) > forgetAfter {
			delete(c.traces, c.ended[0].id)
			c.ended = c.ended[1:]
		}
	}
}

func (p *Prover) capture(id string) *comparison {
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
		if m.Probable {
			p.probable.Add(1)
		} else {
			p.proofs.Add(1)
		}
		if tid := pr.Culprit.TID; tid != pr.Process.PID && !setProgram(&pr, c.programs[tid]) && !p.describe(&pr) && len(c.unnamed) < maxNamed && len(c.unnamed[tid]) < maxOfThread {
			c.unnamed[tid] = append(c.unnamed[tid], pr)
		}
		p.out.Proof(pr)
		if !p.limit.Allow() {
			continue
		}
		d := &pr.Culprit
		p.log.Info("proven", slog.Group("culprit", "capture", d.Capture.ID, "hit", d.Hit.ID, "trace", d.Trace.ID,
			"tid", d.TID, "syscall", d.Syscall, "line", d.Line, "probable", d.Probable),
			slog.Group("process", "pid", pr.Process.PID, "command_line", pr.Process.CommandLine),
			slog.Group("file", "path", pr.File.Path))
	}
}

// end forgets a capture, of which nothing more can be proven.
func (p *Prover) end(c event.Capture) {
	defer p.out.Settled(c)
	of := p.captures[c.Event.ID]
	if of == nil {
		return
	}
	p.found(of, of.matcher.Close())
	delete(p.captures, c.Event.ID)
	lost := of.matcher.Lost()
	p.mail.lose(uint64(lost.Sends + lost.Hits))
}

// tellLost records what was not compared.
func (p *Prover) tellLost() {
	if n := p.mail.takeLost(); n > 0 {
		p.uncompared.Add(n)
		p.out.Lost(event.NewLoss(event.LossUncompared, "", n))
	}
}
