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
	runs    map[socket][]*sent // the same sends, by socket

	scratch []byte
}

// socket names one socket of one trace.
type socket struct{ trace, name string }

// sent is one message of a send.
type sent struct {
	*Send
	trace   string
	message Message
	size    int      // of the message; very large if unknown
	proves  []string // the rules of the hits that it proved
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
	Send  Send
	// Probable says that one side lacks bytes or addresses, see [event.Proof].
	Probable bool
}

// NewMatcher returns a Matcher for one capture.
func NewMatcher() *Matcher { return &Matcher{runs: make(map[socket][]*sent)} }

// Lost returns what was dropped so far.
func (m *Matcher) Lost() MatcherLost { return m.lost }

// Hit adds a hit, which must not be changed afterwards. It returns the proofs of hits that have
// waited long enough.
func (m *Matcher) Hit(h *event.Hit) []Match {
	p, ok := readPacket(h)
	if !ok {
		m.lost.Unproven++
		return m.Tick(h.Timestamp)
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
	key := socket{trace, s.Socket}
	found := false // a send for a hit that has waited long enough
	for _, message := range s.Messages {
		size := message.Size
		if size < 0 {
			size = 1 << 30
		}
		if size == 0 {
			continue
		}
		one := &sent{Send: &s, trace: trace, message: message, size: size}
		m.sends = append(m.sends, one)
		m.sendLen += len(message.Data) + overhead
		m.runs[key] = append(m.runs[key], one)
		run := m.runs[key]
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
	return m.settled()
}

// Close returns the proofs of the hits that wait. The Matcher can be used after it.
func (m *Matcher) Close() []Match {
	return m.settle(func(*waiting) (bool, bool) { return true, true })
}

// forget drops the oldest send.
func (m *Matcher) forget() {
	s := m.sends[0]
	m.sends[0] = nil
	m.sends = m.sends[1:]
	m.sendLen -= len(s.message.Data) + overhead
	key := socket{s.trace, s.Socket}
	if run := m.runs[key]; len(run) > 1 {
		run[0] = nil
		m.runs[key] = run[1:]
	} else {
		delete(m.runs, key)
	}
}

// compare makes the send that the packet comes from the best one for the hit, if it is better. The
// packet has to end in run[last].
func (m *Matcher) compare(w *waiting, run []*sent, last int) {
	s := run[last]
	if age := w.Timestamp.Sub(s.Time); age > before || age < -after {
		return
	}
	agree, sure := w.agree(s)
	if !agree {
		return
	}
	s, probable, ok := w.fit(run, last, &m.scratch)
	if !ok {
		return
	}
	match := &Match{Hit: w.Hit, Trace: s.trace, Send: *s.Send, Probable: probable || !sure}
	if w.best == nil || match.better(w.best) {
		w.best, w.sent = match, s
	}
}

// better reports whether a is a better send for the same hit than b.
func (a *Match) better(b *Match) bool {
	if a.Probable != b.Probable {
		return b.Probable
	}
	da, db := a.Hit.Timestamp.Sub(a.Send.Time), b.Hit.Timestamp.Sub(b.Send.Time)
	if (da < 0) != (db < 0) {
		return db < 0
	}
	return da.Abs() < db.Abs()
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
// may be a second one (TCP sends lost segments again), but more likely we missed a second send.
func (w *waiting) prove() Match {
	if slices.Contains(w.sent.proves, w.Rule.Name) {
		w.best.Probable = true
	} else {
		w.sent.proves = append(w.sent.proves, w.Rule.Name)
	}
	return *w.best
}
