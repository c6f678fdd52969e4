package evidence

import (
	"sync"
	"sync/atomic"

	"culprit/evidence/catalogue"
	"culprit/internal/bell"
	"culprit/internal/event"
)

// pending is what the next transaction writes.
type pending struct {
	*catalogue.Batch
	settled []event.Capture // their packets files can be written once the transaction is
}

// maxSettled bounds the settled captures that wait.
const maxSettled = 10_000

func newPending() *pending { return &pending{Batch: catalogue.NewBatch()} }

// settle adds captures that ended and have all their proofs.
func (p *pending) settle(captures ...event.Capture) {
	if over := len(p.settled) + len(captures) - maxSettled; over > 0 {
		captures = captures[:len(captures)-over]
		p.Without(event.LossUnrecordedCaps, uint64(over))
	}
	p.settled = append(p.settled, captures...)
}

// kept returns what to write later if the transaction failed.
func (p *pending) kept() *pending { return &pending{p.Batch.Kept(), p.settled} }

// then adds what came later to what was kept, which may be nil.
func (p *pending) then(later *pending) *pending {
	if p == nil {
		return later
	}
	p.Append(later.Batch)
	p.settle(later.settled...)
	return p
}

// A mailbox collects what is to be written. Putting something into it never blocks: what has no
// room is counted.
type mailbox struct {
	wake    bell.Bell // something was put in, or the mailbox was closed
	flood   bell.Bell // so much was put in that nothing is gained by waiting for more
	waiting atomic.Int64
	dropped atomic.Uint64 // since the start

	mu      sync.Mutex
	pending *pending
	closed  bool
}

func newMailbox() *mailbox {
	return &mailbox{wake: bell.New(), flood: bell.New(), pending: newPending()}
}

// put lets add add something.
func (m *mailbox) put(add func(*pending)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.pending.Dropped()
	add(m.pending)
	m.dropped.Add(m.pending.Dropped() - before)
	size := m.pending.Size()
	m.waiting.Store(int64(size))
	m.wake.Ring()
	if size >= floodSize {
		m.flood.Ring()
	}
}

// floodSize is how many changes fill a transaction well.
const floodSize = 2048

// take empties the mailbox. last says that it is closed, so that nothing more comes.
func (m *mailbox) take() (all *pending, last bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	all, m.pending = m.pending, newPending()
	m.waiting.Store(0)
	return all, m.closed
}

// close closes the mailbox. Nothing may be put into it after that.
func (m *mailbox) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	m.wake.Ring()
}
