package prover

import (
	"sync"
	"time"

	"culprit/evidence/proof"
	"culprit/internal/event"
)

// news is what the prover is told.
type news interface{ tell(*Prover) }

type (
	hitNews     struct{ hit *event.Hit }
	traceNews   struct{ trace event.Trace }
	programNews struct{ program event.Program }
	endedNews   struct{ capture event.Capture }
	// sendNews is a line of a trace that sends something.
	sendNews struct {
		of   *event.Trace // as it was made
		send proof.Send
	}
)

func (n hitNews) tell(p *Prover) {
	c := p.capture(n.hit.Culprit.Capture.ID)
	p.found(c, c.matcher.Hit(n.hit))
}

func (n traceNews) tell(p *Prover) {
	c, id := p.capture(n.trace.Culprit.Capture.ID), n.trace.Event.ID
	c.traces[id] = n.trace
	if n.trace.Culprit.State == event.StateEnded {
		c.ended = append(c.ended, endedTrace{id, time.Now()})
	}
}

func (n programNews) tell(p *Prover) { p.name(p.captures[n.program.Culprit.Capture.ID], n.program) }

func (n endedNews) tell(p *Prover) { p.end(n.capture) }

func (n sendNews) tell(p *Prover) {
	c, id := p.capture(n.of.Culprit.Capture.ID), n.of.Event.ID
	if _, known := c.traces[id]; !known {
		c.traces[id] = *n.of
	}
	p.found(c, c.matcher.Send(id, n.send))
}

// Bounds of the news that wait: of hits and sends, and of traces and programs. That captures
// ended is always taken: there are few.
const (
	maxComparisons = 4096
	maxFacts       = 16_384
)

// A mailbox holds the news that wait, in order. Nobody waits to put any into it.
type mailbox struct {
	wake chan struct{} // there are some, or it was closed

	mu                 sync.Mutex
	waiting            []news
	comparisons, facts int // of those that wait
	lost               uint64
	closed             bool
}

func newMailbox() *mailbox { return &mailbox{wake: make(chan struct{}, 1)} }

// compare puts a hit or a send into the mailbox, or counts it as lost.
func (m *mailbox) compare(n news) { m.put(n, &m.comparisons, maxComparisons) }

// fact puts in what the prover should know to name what it finds.
func (m *mailbox) fact(n news) { m.put(n, &m.facts, maxFacts) }

// end puts in that a capture ended.
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
	m.ring()
}

// lose counts what could not be compared.
func (m *mailbox) lose(n uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lost += n
}

func (m *mailbox) ring() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// take takes all that waits, and says whether that was the last.
func (m *mailbox) take() (all []news, last bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	all, m.waiting = m.waiting, nil
	m.comparisons, m.facts = 0, 0
	return all, m.closed
}

// takeLost takes the count of what was lost.
func (m *mailbox) takeLost() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	defer func() { m.lost = 0 }()
	return m.lost
}

func (m *mailbox) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	m.ring()
}
