package evidence

import (
	"io"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"culprit/evidence/proof"
	"culprit/internal/event"
	"culprit/internal/proc"
	"culprit/internal/redact"
)

// prover finds, while traces are written, the lines that sent the packets of hits.
// Its goroutine owns all that it knows. Nobody waits until it has compared anything:
// what it does not get done, in a flood that somebody may have made for that, is
// counted, and can be done by [Store.Prove].
type prover struct {
	facts  chan any // of captures, traces and programs: few, and quickly taken
	news   chan any // hits and sends, or lost
	lost   atomic.Uint64
	counts proverCounts
	done   chan struct{}
	record func(any) // must not wait
	log    *slog.Logger
	limit  *rate.Limiter // of log lines about proofs

	captures map[string]*proving // by id, those that live
	users    proc.Users
}

// proving is what the prover knows of a capture.
type proving struct {
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

// sent is a line of a trace that sends something. Other news are *event.Hit,
// event.Trace, event.Program and event.Capture.
type sent struct {
	of   *event.Trace // as it was made
	send proof.Send
}

func newProver(record func(any), log *slog.Logger) *prover {
	p := &prover{
		facts: make(chan any, 1024), news: make(chan any, 4096), done: make(chan struct{}), record: record, log: log,
		limit:    rate.NewLimiter(proofsLogged, proofsLogged),
		captures: map[string]*proving{},
	}
	go p.run()
	return p
}

// offer passes on a hit or a send, if there is time for it.
func (p *prover) offer(n any) {
	select {
	case p.news <- n:
	default:
		p.lost.Add(1)
	}
}

// close waits until all news are taken. Nothing may be told then.
func (p *prover) close() {
	close(p.news)
	<-p.done
}

// proofsLogged is how many proofs are logged a second.
const proofsLogged = 20

func (p *prover) run() {
	defer close(p.done)
	timer := time.NewTimer(settleEvery)
	timer.Stop()
	waiting := false
	for {
		var n any
		open := true
		select {
		case n = <-p.facts:
		case n, open = <-p.news:
		case now := <-timer.C:
			waiting = false
			for _, c := range p.captures {
				p.found(c, c.matcher.Tick(now))
				for len(c.ended) > 0 && now.Sub(c.ended[0].at) > forgetAfter {
					delete(c.traces, c.ended[0].id)
					c.ended = c.ended[1:]
				}
			}
			p.tellLost()
		}
		if !open {
			p.catchUp(p.facts)
			p.tellLost()
			for _, c := range p.captures {
				p.found(c, c.matcher.Close())
			}
			return
		}
		p.take(n)
		if len(p.captures) > 0 && !waiting {
			waiting = true
			timer.Reset(settleEvery)
		}
	}
}

func (p *prover) take(n any) {
	switch n := n.(type) {
	case *event.Hit:
		c := p.capture(n.Culprit.Capture.ID)
		p.found(c, c.matcher.Hit(n))
	case event.Trace:
		c := p.capture(n.Culprit.Capture.ID)
		c.traces[n.Event.ID] = n
		if n.Culprit.State == event.StateEnded {
			c.ended = append(c.ended, endedTrace{n.Event.ID, time.Now()})
		}
	case event.Program:
		p.named(p.captures[n.Culprit.Capture.ID], n)
	case event.Capture:
		if n.Culprit.State == event.StateEnded {
			p.catchUp(p.news)
			p.ended(n)
		}
	case sent:
		c, id := p.capture(n.of.Culprit.Capture.ID), n.of.Event.ID
		if _, known := c.traces[id]; !known {
			c.traces[id] = *n.of
		}
		p.found(c, c.matcher.Send(id, n.send))
	}
}

func (p *prover) capture(id string) *proving {
	c := p.captures[id]
	if c == nil {
		c = &proving{matcher: proof.NewMatcher(), traces: map[string]event.Trace{}, programs: map[int]event.Program{}, unnamed: map[int][]event.Proof{}}
		p.captures[id] = c
	}
	return c
}

// found records proofs.
func (p *prover) found(c *proving, matches []proof.Match) {
	for _, m := range matches {
		pr := newProof(c.traces[m.Trace], m)
		p.counts.found(m.Probable)
		if tid := pr.Culprit.TID; tid != pr.Process.PID && !name(&pr, c.programs[tid]) && !p.describe(&pr) && len(c.unnamed) < maxNamed && len(c.unnamed[tid]) < maxOfThread {
			c.unnamed[tid] = append(c.unnamed[tid], pr)
		}
		p.record(pr)
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

// describe looks whether the thread of a proof is a process of its own, which strace
// followed from its parent, and still there.
func (p *prover) describe(pr *event.Proof) bool {
	status, err := proc.Default.Status(pr.Culprit.TID)
	if err != nil || status.TGID != pr.Culprit.TID {
		return false
	}
	its, err := proc.Default.Describe(pr.Culprit.TID, &p.users)
	if err != nil || its.Start.After(pr.Timestamp.Add(tick)) {
		return false
	}
	pr.Process = its
	return true
}

// name makes a program the process of a proof, unless it is another one with the same
// PID.
func name(pr *event.Proof, program event.Program) bool {
	if program.Process.PID != pr.Culprit.TID || program.Process.Start.After(pr.Timestamp.Add(tick)) ||
		program.Event.End != nil && program.Event.End.Before(pr.Timestamp) {
		return false
	}
	of := pr.Process
	pr.Process = program.Process
	if parent := pr.Process.Parent; parent == nil || parent.PID == of.PID {
		pr.Process.Parent = &of // it knows its parents, too
	}
	return true
}

// newProof makes the document of a proof. Its process is that of the trace.
func newProof(t event.Trace, m proof.Match) event.Proof {
	pr := event.Proof{
		Timestamp: m.Send.Time,
		Event:     event.Meta{ID: event.NewID(), Kind: "event", Action: event.ActionProof},
		Rule:      m.Hit.Rule, User: t.User, Process: t.Process, File: t.File,
		Culprit: event.ProofDetail{
			Capture: t.Culprit.Capture, Hit: event.Reference{ID: m.Hit.Event.ID}, Trace: event.Reference{ID: t.Event.ID},
			Probable: m.Probable, TID: m.Send.TID, Syscall: m.Send.Syscall, Line: m.Send.Line, Offset: m.Send.Offset,
		},
	}
	return pr
}

// named takes in a program, and adds to proofs that it is their process.
func (p *prover) named(c *proving, program event.Program) {
	if c == nil {
		return
	}
	pid := program.Process.PID
	if len(c.programs) >= maxNamed {
		clear(c.programs)
	}
	c.programs[pid] = program
	for _, pr := range c.unnamed[pid] {
		if name(&pr, program) {
			p.record(pr)
		}
	}
	delete(c.unnamed, pid)
}

// catchUp takes what was told until now.
func (p *prover) catchUp(told <-chan any) {
	for {
		select {
		case n, open := <-told:
			if !open {
				return
			}
			p.take(n)
		default:
			return
		}
	}
}

// ended forgets a capture, of which nothing more can be proven.
func (p *prover) ended(c event.Capture) {
	defer p.record(packetsDue{c})
	of := p.captures[c.Event.ID]
	if of == nil {
		return
	}
	p.found(of, of.matcher.Close())
	delete(p.captures, c.Event.ID)
	lost := of.matcher.Lost()
	p.lost.Add(uint64(lost.Sends + lost.Hits))
}

// tellLost records what was not compared.
func (p *prover) tellLost() {
	if n := p.lost.Swap(0); n > 0 {
		p.counts.uncompared.Add(n)
		p.record(event.NewLoss(event.LossUncompared, "", n))
	}
}

// settleEvery is how often hits are looked at that wait for the send that fits best.
const settleEvery = 250 * time.Millisecond

// tick is how exactly the start of a process is known.
const tick = 10 * time.Millisecond

// A provedFile is the file of a trace whose lines are compared with packets as they
// come, before anything in them is masked.
type provedFile struct {
	io.WriteCloser
	scanner *proof.Scanner
	closed  func(proof.ScannerLost)
}

// prove returns a file for the trace that writes to the given one, masked.
func (p *prover) prove(t *event.Trace, file *os.File, mask *redact.Patterns) io.WriteCloser {
	of := *t
	return &provedFile{
		WriteCloser: maskLines(file, mask),
		scanner:     proof.NewScanner(func(s proof.Send) { p.offer(sent{&of, s}) }),
		closed:      func(lost proof.ScannerLost) { p.lost.Add(uint64(lost.LongLines + lost.Unfinished)) },
	}
}

func (f *provedFile) Write(b []byte) (int, error) {
	n, err := f.WriteCloser.Write(b)
	f.scanner.Write(b[:n])
	return n, err
}

func (f *provedFile) Close() error {
	f.scanner.Close()
	f.closed(f.scanner.Lost())
	return f.WriteCloser.Close()
}
