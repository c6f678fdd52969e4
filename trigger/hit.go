package trigger

import (
	"net/netip"
	"strconv"
	"strings"
	"time"

	"culprit/internal/event"
	"culprit/internal/proc"
)

// newHit makes the hit for a packet, without its user and origin. It shows the question
// with the index matched.
func newHit(in nflogPacket, pkt packet, asked []question, matched int) *event.Hit {
	h := &event.Hit{
		Timestamp:   in.time,
		Event:       event.Meta{ID: event.NewID(), Kind: "alert", Action: event.ActionHit},
		Rule:        event.Rule{Name: in.rule},
		Network:     pkt.network,
		Source:      pkt.source,
		Destination: pkt.destination,
		Culprit:     event.HitDetail{Count: 1, Truncated: pkt.truncated},
		Packet:      in.data,
		Payload:     pkt.payload,
	}
	if len(asked) > 0 {
		h.DNS = &asked[matched].DNS
	}
	if len(asked) > 1 {
		for _, q := range asked {
			h.Culprit.Questions = append(h.Culprit.Questions, q.DNS)
		}
	}
	return h
}

func userOf(in nflogPacket, users *proc.Users) *event.User {
	u := users.User(*in.uid)
	if in.gid != nil {
		u.Group = &event.Group{ID: strconv.FormatUint(uint64(*in.gid), 10)}
	}
	return &u
}

// repeatWindow is how long equal packets count as one hit.
const repeatWindow = time.Second

// maxRepeats bounds how many hits of the last second are remembered. Beyond it each repeated
// packet is a hit of its own, bounded by nflog.rate.
const maxRepeats = 1 << 16

// repeat is what packets of the same hit have in common: rule, UID, network namespace, flow and questions, and the process
// that sent them, if the kernel saw it: others may share its socket.
type repeat struct {
	rule     string
	sender   proc.ID // zero: unknown
	netns    uint32  // 0: ours
	uid      int64   // -1: unknown
	network  event.Network
	from, to netip.AddrPort
	asked    string
}

func repeatKey(in nflogPacket, pkt packet, asked []question, sender proc.ID) repeat {
	k := repeat{
		rule: in.rule, sender: sender, uid: -1, network: pkt.network,
		from: netip.AddrPortFrom(pkt.source.IP, pkt.source.Port),
		to:   netip.AddrPortFrom(pkt.destination.IP, pkt.destination.Port),
	}
	k.network.Bytes = 0
	if in.uid != nil {
		k.uid = int64(*in.uid)
	}
	if in.other != nil {
		k.netns = in.other.Netns
	}
	switch len(asked) {
	case 0:
	case 1:
		k.asked = asked[0].Question.Name + " " + asked[0].Question.Type
	default:
		var b strings.Builder
		for _, q := range asked {
			b.WriteString(q.Question.Name + " " + q.Question.Type + "\n")
		}
		k.asked = b.String()
	}
	return k
}

// repeats remembers the hits of the last second. The zero value is ready.
type repeats struct {
	byKey map[repeat]*seenHit
	queue []*seenHit // oldest first
}

type seenHit struct {
	key   repeat
	id    string
	first time.Time
	count int
}

// bySomebody is the same without the sender.
func (k repeat) bySomebody() repeat {
	k.sender = proc.ID{}
	return k
}

// seen reports whether the packet repeats a hit of the last second, and counts it.
func (r *repeats) seen(k repeat, now time.Time) bool {
	s := r.byKey[k]
	if s == nil || now.Sub(s.first) > repeatWindow {
		return false
	}
	s.count++
	return true
}

// add remembers a new hit.
func (r *repeats) add(k repeat, id string, now time.Time) {
	if len(r.queue) >= maxRepeats {
		return
	}
	if r.byKey == nil {
		r.byKey = map[repeat]*seenHit{}
	}
	s := &seenHit{key: k, id: id, first: now, count: 1}
	r.byKey[k], r.byKey[k.bySomebody()] = s, s
	r.queue = append(r.queue, s)
}

// expire forgets hits over a second old, and calls tell with the counts of those seen more than
// once. It returns how many are left.
func (r *repeats) expire(now time.Time, tell func(id string, count int)) int {
	n := 0
	for n < len(r.queue) && now.Sub(r.queue[n].first) > repeatWindow {
		s := r.queue[n]
		if s.count > 1 {
			tell(s.id, s.count)
		}
		for _, k := range []repeat{s.key, s.key.bySomebody()} {
			if r.byKey[k] == s {
				delete(r.byKey, k)
			}
		}
		n++
	}
	if n == len(r.queue) {
		r.byKey, r.queue = nil, nil // release the memory that a flood took
		return 0
	}
	r.queue = r.queue[n:]
	return len(r.queue)
}
