package proof

import (
	"slices"
	"time"

	"culprit/internal/event"
)

// Times of sends and hits. strace stamps the beginning of a call; a hit is stamped when we get it,
// which is later, unless somebody sets the clock.
const (
	before = 5 * time.Second       // a send may be that much before its hit
	after  = 50 * time.Millisecond // … and that much after it
	settle = time.Second           // a hit waits that long for a send that fits better
	keep   = 10 * time.Second      // sends, and hits without a proof, are kept that long
)

// Bounds of a Matcher's memory.
const (
	maxSends   = 1 << 14
	maxSendLen = 16 << 20 // bytes of their messages
	maxHits    = 1 << 10
	maxHitLen  = 4 << 20 // bytes of their packets
	overhead   = 512     // bytes that each send and hit counts beside these
)

// A Matcher finds the send that each hit of one capture comes from. Hits and sends come in any
// order. It belongs to one goroutine.
//
// A hit waits a second for the send that fits best: a sure one is better than a probable one, one
// before the hit better than one after it, and then the nearest is best.
type Matcher struct {
	now  time.Time // of the latest hit or tick
	lost MatcherLost

	hits   []*waiting // oldest first
	hitLen int

	sends   []*sent // oldest first
	sendLen int
	runs    map[socket][]*sent   // the same sends, by socket
	open    map[descriptor]*sent // the latest piece of a packet that goes on, by descriptor
	calls   []*sent              // that do not show their bytes, oldest first

	scratch []byte
}

// waiting is a hit without a proof.
type waiting struct {
	*event.Hit
	packet
	best *Match
	sent *sent // of best
}

// MatcherLost counts what a Matcher dropped.
type MatcherLost struct {
	Sends    int64 // sends that had no room to wait for hits
	Hits     int64 // hits that had no room to wait for sends
	Unproven int64 // hits without a send that fits
}

// Match is a hit and the send that its packet comes from.
type Match struct {
	Hit   *event.Hit
	Trace string // as it was given to [Matcher.Send]
	Send  Send   // the last one, if several made the packet
	// Parts are the lines of the others, in order.
	Parts []event.Line
	// Probable says that one side lacks bytes or addresses, see [event.Proof].
	Probable bool
	// Kernel says that the bytes do not show, but that the kernel saw the send, see [event.Proof].
	Kernel bool

	saw bool          // the kernel saw the send
	age time.Duration // of the send when the packet was sent
}

// NewMatcher returns a Matcher for one capture.
func NewMatcher() *Matcher {
	return &Matcher{runs: make(map[socket][]*sent), open: make(map[descriptor]*sent)}
}

// Lost returns what was dropped so far.
func (m *Matcher) Lost() MatcherLost { return m.lost }

// Hit adds a hit, which must not be changed afterwards. It returns the proofs of hits that have
// waited long enough.
func (m *Matcher) Hit(h *event.Hit) []Match {
	p, ok := readPacket(h)
	if !ok && h.Culprit.Sent == nil {
		m.lost.Unproven++
		return m.Tick(h.Timestamp)
	}
	if !ok {
		p = packet{} // only the kernel can tell
	}
	w := &waiting{Hit: h, packet: p}
	m.hits = append(m.hits, w)
	m.hitLen += len(h.Packet) + overhead
	for _, run := range m.runs {
		if w.foreign(run[0].Send) {
			continue
		}
		for i := range run {
			m.compare(w, run, i)
		}
	}
	if h.Culprit.Sent != nil {
		for _, s := range m.calls {
			m.compareHidden(w, s)
		}
	}
	matches := m.Tick(h.Timestamp)
	for len(m.hits) > maxHits || m.hitLen > maxHitLen && len(m.hits) > 0 {
		w := m.hits[0]
		m.hits = slices.Delete(m.hits, 0, 1)
		m.hitLen -= len(w.Packet) + overhead
		if w.best != nil {
			matches = append(matches, w.prove())
		} else {
			m.lost.Hits++
		}
	}
	return matches
}

// Send adds a send that the Scanner of a trace found, and returns the proofs of hits that have
// waited long enough. The sends of a trace must come in their order.
func (m *Matcher) Send(trace string, s Send) []Match {
	found := false // a send for a hit that has waited long enough
	if s.Hidden {
		found = m.hidden(trace, &s)
	}
	messages := s.Messages
	if s.Cork != CorkNone {
		messages = []Message{{}}
	}
	for _, message := range messages {
		size := message.Size
		if size < 0 {
			size = 1 << 30
		}
		if size == 0 && s.Cork == CorkNone {
			continue
		}
		run := m.add(&sent{Send: &s, trace: trace, socket: socket{trace, s.Socket}, message: message, size: size})
		for _, w := range m.hits {
			m.compare(w, run, len(run)-1)
			found = found || w.best != nil && m.age(w) >= settle
		}
		for len(m.sends) > maxSends || m.sendLen > maxSendLen {
			m.forget()
			m.lost.Sends++
		}
	}
	if !found {
		return nil
	}
	return m.settled()
}

// Tick sets the time, and returns the proofs of hits that have waited long enough. Call it a few
// times a second while hits wait.
func (m *Matcher) Tick(now time.Time) []Match {
	m.now = now
	for len(m.sends) > 0 && now.Sub(m.sends[0].Time).Abs() > keep { // the clock may have been set back
		m.forget()
	}
	for len(m.calls) > 0 && now.Sub(m.calls[0].Time).Abs()-max(0, m.calls[0].Took) > keep {
		m.calls = m.calls[1:]
	}
	return m.settled()
}

// Close returns the proofs of the hits that wait. The Matcher can be used after it.
func (m *Matcher) Close() []Match {
	return m.settle(func(*waiting) (bool, bool) { return true, true })
}

// compare makes the send that the packet comes from the best one for the hit, if it is better. The
// packet has to end in run[last].
func (m *Matcher) compare(w *waiting, run []*sent, last int) {
	s := run[last]
	if w.transport == "" || !w.inTime(s.Send) || !w.allowed(s.Send) {
		return
	}
	agree, sure := w.agree(s)
	if !agree {
		return
	}
	least := minKnown
	if w.saw(s.Send) {
		least = 0
	}
	pieces, missing, ok := w.fit(run, last, least, &m.scratch)
	probable, kernel := missing || !sure, false
	if !ok || probable {
		if seen, saw := w.byKernel(pieces, run, last); saw {
			kernel, probable = missing || !ok, false
			pieces, ok = seen, true
		}
	}
	if !ok {
		return
	}
	s = pieces[len(pieces)-1]
	m.offer(w, s, &Match{
		Hit: w.Hit, Trace: s.trace, Send: *s.Send, Parts: parts(pieces), Kernel: kernel, Probable: probable || w.doubtful(s.Send),
	})
}

// parts returns the lines of the pieces before the last one's.
func parts(pieces []*sent) (lines []event.Line) {
	last := pieces[len(pieces)-1].Line
	for _, s := range pieces {
		if s.Line != last && (len(lines) == 0 || lines[len(lines)-1].Line != s.Line) {
			lines = append(lines, event.Line{Syscall: s.Syscall, Line: s.Line, Offset: s.Offset})
		}
	}
	return lines
}

// better reports whether a is a better send for the same hit than b.
func (a *Match) better(b *Match) bool {
	switch {
	case a.Probable != b.Probable:
		return b.Probable
	case a.Kernel != b.Kernel:
		return b.Kernel
	case a.saw != b.saw:
		return a.saw
	case (a.age < 0) != (b.age < 0):
		return b.age < 0
	}
	return a.age.Abs() < b.age.Abs()
}

// settled returns the proofs of hits that have waited long enough.
func (m *Matcher) settled() []Match {
	return m.settle(func(w *waiting) (prove, drop bool) {
		age := m.age(w)
		return age >= settle, age >= keep
	})
}

// age returns how long a hit has waited. A hit from the future, as the clock was set back by more
// than keep, has waited long enough.
func (m *Matcher) age(w *waiting) time.Duration {
	if age := m.now.Sub(w.Timestamp); age >= -keep {
		return age
	}
	return keep
}

func (m *Matcher) settle(decide func(*waiting) (prove, drop bool)) (matches []Match) {
	m.hits = slices.DeleteFunc(m.hits, func(w *waiting) bool {
		prove, drop := decide(w)
		switch {
		case w.best != nil && prove:
			matches = append(matches, w.prove())
		case w.best == nil && drop:
			m.lost.Unproven++
		default:
			return false
		}
		m.hitLen -= len(w.Packet) + overhead
		return true
	})
	return matches
}

// prove makes the best send the proof. If the same rule has already seen a packet of that send, this
// may be a second one (TCP sends lost segments again), but more likely we missed a second send, unless
// the kernel saw this one.
func (w *waiting) prove() Match {
	switch {
	case w.best.saw:
	case slices.Contains(w.sent.proves, w.Rule.Name):
		w.best.Probable = true
	default:
		w.sent.proves = append(w.sent.proves, w.Rule.Name)
	}
	return *w.best
}
