package prover

import (
	"sync"
	"time"

	"culprit/evidence/proof"
	"culprit/internal/bell"
	"culprit/internal/event"
)

// news is a message for the prover's goroutine.
type news interface{ handle(*Prover) }

type (
	hitNews struct{ hit *event.Hit }
	// backNews is a hit whose look-back is about to be written.
	backNews struct {
		hit   *event.Hit
		trace string
	}
	traceNews   struct{ trace event.Trace }
	programNews struct{ program event.Program }
	endedNews   struct{ capture event.Capture }
	// sendNews is a line of a trace that sends something.
	sendNews struct {
		of   *event.Trace // as it began
		send proof.Send
	}
)

func (n hitNews) handle(p *Prover) {
	c := p.comparison(n.hit.Culprit.Capture.ID)
	p.found(c, c.matcher.Hit(n.hit))
}

func (n backNews) handle(p *Prover) {
	if c := n.hit.Culprit.Capture; c != nil && p.captures[c.ID] != nil {
		return // it waits for lines already
	}
	c := p.comparison(n.trace)
	c.late = true
	p.found(c, c.matcher.Hit(n.hit))
}

func (n traceNews) handle(p *Prover) {
	id, ended := n.trace.Event.ID, n.trace.Culprit.State == event.StateEnded
	key := p.key(&n.trace)
	if key == id && ended && p.captures[id] == nil {
		return // its capture has ended since it began
	}
	c := p.comparison(key)
	c.traces[id] = n.trace
	switch {
	case !ended:
	case key == id: // nothing more comes
		p.finish(c)
		delete(p.captures, id)
	default:
		c.ended = append(c.ended, endedTrace{id, time.Now()})
	}
}

func (n programNews) handle(p *Prover) {
	if c := p.captures[n.program.Culprit.Capture.ID]; c != nil {
		p.name(c, n.program)
	}
}

func (n endedNews) handle(p *Prover) {
	id := n.capture.Event.ID
	if c := p.captures[id]; c != nil {
		p.finish(c)
		delete(p.captures, id)
	}
	p.out.Settled(n.capture)
}

func (n sendNews) handle(p *Prover) {
	key, id := p.key(n.of), n.of.Event.ID
	if key == id && p.captures[id] == nil {
		return // its capture has ended since it began
	}
	c := p.comparison(key)
	if _, known := c.traces[id]; !known {
		c.traces[id] = *n.of
	}
	p.found(c, c.matcher.Send(id, n.send))
}

// Bounds of the news that wait. There is none for ends of captures, which are few.
const (
	maxComparisons = 4096   // hits and sends
	maxFacts       = 16_384 // traces and programs
)

// A mailbox holds the news that wait, in order. Putting news into it never blocks.
type mailbox struct {
	wake bell.Bell // something was put in, or the mailbox was closed

	mu                 sync.Mutex
	waiting            []news
	comparisons, facts int // how many of each wait
	lost               uint64
	closed             bool
}

func newMailbox() *mailbox { return &mailbox{wake: bell.New()} }

// compare puts in a hit or a send, or counts it as lost.
func (m *mailbox) compare(n news) { m.put(n, &m.comparisons, maxComparisons) }

// fact puts in a trace or a program, which gives a proof its process, or counts it as lost.
func (m *mailbox) fact(n news) { m.put(n, &m.facts, maxFacts) }

// end puts in the end of a capture.
func (m *mailbox) end(n endedNews) { m.put(n, new(int), 1) }

func (m *mailbox) put(n news, count *int, most int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if *count >= most {
		m.lost++
		return
	}
	*count++
	m.waiting = append(m.waiting, n)
	m.wake.Ring()
}

// lose counts what could not be compared.
func (m *mailbox) lose(n uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lost += n
	m.wake.Ring()
}

// take empties the mailbox. It also returns how much was lost since the last time, and whether
// the mailbox is closed, so that nothing more comes.
func (m *mailbox) take() (all []news, lost uint64, last bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	all, lost = m.waiting, m.lost
	m.waiting, m.lost, m.comparisons, m.facts = nil, 0, 0, 0
	return all, lost, m.closed
}

func (m *mailbox) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	m.wake.Ring()
}
