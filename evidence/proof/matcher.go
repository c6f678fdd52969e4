package proof

import (
	"slices"
	"time"

	"culprit/internal/event"
)

// How far a send may be from its hit. strace stamps the begin of the call; the hit is
// stamped when we get it, later. What is after it is for clocks that are set.
const (
	before = 5 * time.Second
	after  = 50 * time.Millisecond
	// settle is how long a hit waits for a send that fits better.
	settle = time.Second
	// keep is how long sends and hits without a proof are kept.
	keep = 10 * time.Second
)

// Bounds of a Matcher's memory.
const (
	maxSends   = 1 << 14
	maxSendLen = 16 << 20 // bytes of their messages
	maxHits    = 1 << 10
	maxHitLen  = 4 << 20 // bytes of their packets
	overhead   = 512     // of each of them, counted as bytes
)

// A Matcher finds out which send each hit of one capture comes from. Hits and sends
// come in any order. It belongs to one goroutine.
//
// A hit waits a second for the send that fits best: one that is sure before one that
// is probable, one before the hit before one after it, and then the nearest.
type Matcher struct {
	now  time.Time // of the latest hit or tick
	lost MatcherLost

	hits   []*waiting // oldest first
	hitLen int

	sends   []*sent // oldest first
	sendLen int
	runs    map[socket][]*sent // the same, by socket

	scratch []byte
}

// socket names one socket of one trace.
type socket struct{ trace, name string }

// sent is one message of a send.
type sent struct {
	*Send
	trace   string
	message Message
	size    int      // of the message; very large if it is not known
	proves  []string // the rules of the hits that it has proven
}

// waiting is a hit that has no proof yet.
type waiting struct {
	*event.Hit
	packet
	best *Match
	sent *sent // of best
}

// MatcherLost counts what a Matcher dropped.
type MatcherLost struct {
	Sends    int64 // sends that were too many to be kept for hits that come later
	Hits     int64 // hits that were too many to wait for their sends
	Unproven int64 // hits without a send that fits
}

// Match is a hit and the send that its packet comes from.
type Match struct {
	Hit   *event.Hit
	Trace string // as it was given to [Matcher.Send]
	Send  Send
	// Probable says that bytes or addresses are missing on one side, see [event.Proof].
	Probable bool
}

// NewMatcher returns a Matcher for one capture.
func NewMatcher() *Matcher { return &Matcher{runs: make(map[socket][]*sent)} }

// Lost returns what was dropped until now.
func (m *Matcher) Lost() MatcherLost { return m.lost }

// Hit adds a hit, and returns the proofs that were found meanwhile. The hit must not
// be changed afterwards.
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

// Send adds what a trace's Scanner found, and returns the proofs that were found
// meanwhile. The sends of one trace come in their order.
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

// Tick tells what time it is, and returns the proofs of hits that have waited long
// enough. Call it a few times a second while hits wait.
func (m *Matcher) Tick(now time.Time) []Match {
	m.now = now
	for len(m.sends) > 0 && now.Sub(m.sends[0].Time).Abs() > keep { // the clock may have been set back
		m.forget()
	}
	return m.settled()
}

// Close returns the proofs of the hits that wait. The Matcher can be used on.
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

// compare makes the packet's send the best one for the hit if it is that. The packet
// ends in run[last].
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

// better compares two sends for the same hit. Of two that are equal the first is
// taken.
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

// age is how long a hit has waited. When the clock was set back by more than we keep
// things, no hit waits for its old time to come again.
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

// prove takes the best send for the proof. A send of which the same rule has already
// seen a packet may still be that of a second one (TCP sends again what was lost),
// but more probably we have not seen the second send.
func (w *waiting) prove() Match {
	if slices.Contains(w.sent.proves, w.Rule.Name) {
		w.best.Probable = true
	} else {
		w.sent.proves = append(w.sent.proves, w.Rule.Name)
	}
	return *w.best
}
