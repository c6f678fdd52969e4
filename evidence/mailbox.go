package evidence

import (
	"sync"
	"sync/atomic"

	"culprit/evidence/catalogue"
	"culprit/internal/event"
)

// pending is what waits to be written, in one transaction.
type pending struct {
	*catalogue.Batch
	settled []event.Capture // their packets can be packed once it is written
}

// maxSettled bounds the captures whose packets wait to be packed.
const maxSettled = 10_000

func newPending() *pending { return &pending{Batch: catalogue.NewBatch()} }

// settle adds captures of which nothing more will be proven.
func (p *pending) settle(captures ...event.Capture) {
	if over := len(p.settled) + len(captures) - maxSettled; over > 0 {
		captures = captures[:len(captures)-over]
		p.Without(event.LossUnrecordedCaps, uint64(over))
	}
	p.settled = append(p.settled, captures...)
}

// kept is what is kept if it could not be written.
func (p *pending) kept() *pending { return &pending{p.Batch.Kept(), p.settled} }

// then adds what came later.
func (p *pending) then(later *pending) *pending {
	if p == nil {
		return later
	}
	p.Append(later.Batch)
	p.settle(later.settled...)
	return p
}

// A mailbox collects what is to be written. Nobody waits to put anything into it; what has
// no room is counted.
type mailbox struct {
	wake    chan struct{} // there is something, or it was closed
	waiting atomic.Int64
	dropped atomic.Uint64 // since the beginning

	mu      sync.Mutex
	pending *pending
	closed  bool
}

func newMailbox() *mailbox { return &mailbox{wake: make(chan struct{}, 1), pending: newPending()} }

// put has something added.
func (m *mailbox) put(add func(*pending)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.pending.Dropped()
	add(m.pending)
	m.dropped.Add(m.pending.Dropped() - before)
	m.waiting.Store(int64(m.pending.Size()))
	m.ring()
}

func (m *mailbox) ring() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// take takes all, and says whether that was the last.
func (m *mailbox) take() (all *pending, last bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	all, m.pending = m.pending, newPending()
	m.waiting.Store(0)
	return all, m.closed
}

// close ends it. What is put into it then is lost.
func (m *mailbox) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	m.ring()
}
