package capture

import (
	"cmp"
	"crypto/sha256"
	"slices"
	"time"

	"culprit/internal/event"
)

// lookups remembers who asked what. A question to a local resolver is sent twice: by the
// program to the resolver, and by the resolver to its server. So is each packet of a network
// namespace that pasta or slirp4netns sends for. The second hit is joined to the first.
type lookups struct {
	queue      []*asked // oldest first
	byQuestion map[event.Question][]*asked
	byMessage  map[message256][]*asked
}

// asked is a hit that asked something.
type asked struct {
	from event.Forwarded // whose question it was first: of this hit, or of the one that was forwarded with it
	who  string          // tells askers apart
	// Of the hit only what is needed, as it can be large.
	time     time.Time
	question event.Question // empty: it is not DNS
	message  message256     // zero: nobody knows
	process  string         // its entity id
	netns    *event.Namespace
	to       event.Endpoint
	captured bool // its user is
}

// message256 is the hash of what a packet says.
type message256 [sha256.Size]byte

// forwardWithin is how long after a question a resolver may forward it: it asks a server
// that does not answer several times. maxAsked bounds the memory, maxOrigins how many are told.
const (
	forwardWithin = 10 * time.Second
	maxAsked      = 4096
	maxOrigins    = 8
)

// ask remembers what a hit asks, and whether its user is captured. If that was forwarded, from says for whom.
func (l *lookups) ask(h *event.Hit, from *asked, captured bool) {
	if h.DNS == nil && len(h.Payload) == 0 {
		return
	}
	a := &asked{
		from: event.NewForwarded(h), who: asker(h), time: h.Timestamp,
		message: messageOf(h), netns: h.Culprit.Netns, to: h.Destination, captured: captured,
	}
	if h.DNS != nil {
		a.question = h.DNS.Question
	}
	if h.Process != nil {
		a.process = h.Process.EntityID
	}
	if from != nil {
		a.from, a.who = from.from, from.who
	}
	if l.byQuestion == nil {
		l.byQuestion, l.byMessage = map[event.Question][]*asked{}, map[message256][]*asked{}
	}
	l.queue = append(l.queue, a)
	if h.DNS != nil {
		l.byQuestion[a.question] = append(l.byQuestion[a.question], a)
	}
	if a.message != (message256{}) {
		l.byMessage[a.message] = append(l.byMessage[a.message], a)
	}
	l.expire(h.Timestamp)
}

// expire forgets what was asked too long ago, or too many questions ago.
func (l *lookups) expire(now time.Time) {
	n := 0
	for ; n < len(l.queue) && (len(l.queue)-n > maxAsked || now.Sub(l.queue[n].time) > forwardWithin); n++ {
		a := l.queue[n]
		if a.question != (event.Question{}) {
			dropFirst(l.byQuestion, a.question)
		}
		if a.message != (message256{}) {
			dropFirst(l.byMessage, a.message)
		}
		l.queue[n] = nil
	}
	l.queue = l.queue[n:]
}

// dropFirst drops the oldest of those with a key.
func dropFirst[K comparable](of map[K][]*asked, key K) {
	if all := of[key]; len(all) > 1 {
		all[0] = nil
		of[key] = all[1:]
	} else {
		delete(of, key)
	}
}

// messageOf returns what a hit's packet says, zero if that is not known. The same bytes over TCP may come in other pieces, but with the same id
// and question.
func messageOf(h *event.Hit) message256 {
	if d := h.DNS; d != nil && h.Network.Transport == "tcp" {
		return sha256.Sum256([]byte(d.ID + " " + d.Question.Name + " " + d.Question.Type + " " + d.Question.Class))
	}
	if len(h.Payload) == 0 {
		return message256{}
	}
	return sha256.Sum256(h.Payload)
}

// asker tells who sent a hit's packet from others: the process or, if that is not known, the socket.
func asker(h *event.Hit) string {
	if h.Process != nil && len(h.Culprit.Origin.Processes) == 0 {
		return h.Process.EntityID
	}
	uid := ""
	if u := h.Owner(); u != nil {
		uid = u.ID
	}
	return uid + " " + h.Source.String()
}

// origins returns for whom a forwarder may have sent a hit's packet, the latest first: more than one if several programs have
// asked the same. captured says whether one of them is.
func (l *lookups) origins(h *event.Hit, f *forwarder) (all []*asked, captured bool) {
	l.expire(h.Timestamp)
	var asks []*asked
	switch {
	case f.how == event.ForwardedMessage:
		asks = l.byMessage[messageOf(h)]
	case h.DNS != nil:
		asks = l.byQuestion[h.DNS.Question]
	}
	if h.Culprit.Netns != nil && f.how == event.ForwardedQuestion {
		// Docker's resolver listens in the namespace of each container, and asks from there.
		in := func(a *asked) bool { n := a.netns; return n != nil && n.Inode == h.Culprit.Netns.Inode }
		if there := filter(asks, in); len(there) > 0 {
			asks = there
		}
	}
	seen := map[string]bool{}
	for _, a := range slices.Backward(asks) {
		if !f.serves(h, a) {
			continue
		}
		captured = captured || a.captured
		if !seen[a.who] && len(all) < maxOrigins {
			seen[a.who] = true
			all = append(all, a)
		}
	}
	return all, captured
}

func filter(all []*asked, keep func(*asked) bool) (kept []*asked) {
	for _, a := range all {
		if keep(a) {
			kept = append(kept, a)
		}
	}
	return kept
}

// forwarded says in a hit for whom a forwarder sent its packet, or may have, and whether it is taken for that: or a user who is not
// captured for what he asked would not be for what his own program sends on. from is who asked, if that is one program.
func (l *lookups) forwarded(h *event.Hit, f *forwarder) (from *asked, is bool) {
	origins, captured := l.origins(h, f)
	for _, a := range origins {
		told := a.from
		if told.How = cmp.Or(told.How, f.how); f.how == event.ForwardedQuestion {
			told.How = f.how
		}
		h.Culprit.ForwardedCandidates = append(h.Culprit.ForwardedCandidates, told)
	}
	is = len(origins) > 0 && (f.trusted || captured)
	if !is || len(origins) > 1 {
		return nil, is
	}
	only := h.Culprit.ForwardedCandidates[0]
	h.Culprit.ForwardedFrom, h.Culprit.ForwardedCandidates = &only, nil
	return &asked{from: only, who: origins[0].who, captured: origins[0].captured}, true
}
