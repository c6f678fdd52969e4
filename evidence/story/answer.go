package story

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"culprit/evidence/proof"
	"culprit/internal/dns"
	"culprit/internal/event"
)

// Bounds of what is remembered of answers.
const (
	maxConnections = 16   // of an answer
	maxTold        = 4096 // addresses of all answers
	maxNames       = 3    // for which the same address was told
	maxStreams     = 16   // TCP connections to servers
	maxMessage     = 2 + 1<<16
)

// An Answer is what the sender of a hit was told, and what it did then.
type Answer struct {
	dns.Answer
	Place
	TID       int
	Time      time.Time      // when the call returned that received it
	From      netip.AddrPort // the zero AddrPort if the line does not show it
	Addresses []netip.Addr
	// Connections go to Addresses, by time.
	Connections []Connection
	More        int // connections that are left out
}

// A Connection goes to an address that the process was told.
type Connection struct {
	Place
	TID       int
	Time      time.Time // when the call began
	To        netip.AddrPort
	Transport string // udp, tcp, or "" if the line does not say it
	Error     string // ECONNREFUSED, …: it did not succeed. EINPROGRESS: not at once
	Bytes     int64  // sent to it
	Child     bool   // by a process that the sender started
	// Also are other names for which the process was told the same address, before.
	Also []string
}

// answers joins answers with hits, and connections with answers.
type answers struct {
	servers map[netip.AddrPort]bool // whom the hits asked
	asked   map[question][]*event.Hit
	of      map[string]*Answer       // by the hit's id
	to      map[netip.Addr][]*Answer // those to hits, by what they told
	told    map[netip.Addr][]string  // the names whose address it is, by all answers so far
	streams map[string][]byte        // what came of messages over TCP, by socket
}

// question is what a packet and its answer have in common.
type question struct{ id, name, kind, class string }

// askedBy returns the question of a message.
func askedBy(message []byte, q dns.Question) question {
	return question{strconv.Itoa(int(binary.BigEndian.Uint16(message))), q.Name, q.Type, q.Class}
}

func newAnswers(hits []*event.Hit) *answers {
	a := &answers{
		servers: map[netip.AddrPort]bool{}, asked: map[question][]*event.Hit{}, of: map[string]*Answer{}, to: map[netip.Addr][]*Answer{},
		told: map[netip.Addr][]string{}, streams: map[string][]byte{},
	}
	for _, h := range hits {
		a.servers[netip.AddrPortFrom(h.Destination.IP, h.Destination.Port)] = true
		questions := h.Culprit.Questions
		if len(questions) == 0 && h.DNS != nil {
			questions = []event.DNS{*h.DNS}
		}
		for _, q := range questions {
			key := question{q.ID, strings.ToLower(q.Question.Name), q.Question.Type, q.Question.Class}
			a.asked[key] = append(a.asked[key], h)
		}
	}
	return a
}

// received reads what the sender received, and returns the answers to questions of DNS in it.
func (a *answers) received(l *line, c *proof.Call) (all []*Answer) {
	for _, m := range c.Messages {
		from := c.Peer()
		if m.Remote.IsValid() {
			from = m.Remote
		}
		// A look-back does not show who sent to a socket that is not connected.
		if !a.isServer(from) && (from.IsValid() || c.Transport != "udp") {
			continue
		}
		for _, b := range a.messages(c, m) {
			d, ok := dns.ReadAnswer(b)
			if !ok {
				continue
			}
			answer := &Answer{Answer: d, Place: l.place(), TID: l.tid, Time: c.End(l.at), From: from, Addresses: d.Addresses()}
			a.join(answer)
			all = append(all, answer)
		}
	}
	return all
}

// isServer reports whether answers come from there: the port of DNS, or whom a hit asked.
func (a *answers) isServer(from netip.AddrPort) bool {
	const domain, multicast = 53, 5353
	return from.Port() == domain || from.Port() == multicast || a.servers[from]
}

// messages returns the messages of DNS that are whole with what was received. Over TCP each comes
// after its length, in pieces of any size.
func (a *answers) messages(c *proof.Call, m proof.Message) (all [][]byte) {
	if c.Transport != "tcp" {
		return [][]byte{m.Data}
	}
	rest, known := a.streams[c.Socket]
	if rest = append(rest, m.Data...); !known && len(a.streams) >= maxStreams {
		return nil
	}
	for len(rest) >= 2 {
		n := 2 + int(binary.BigEndian.Uint16(rest))
		if m.Cut() && n > len(rest) { // the rest of it is not shown
			all = append(all, rest[2:])
			rest = nil
		}
		if n > len(rest) {
			break
		}
		all = append(all, rest[2:n])
		rest = rest[n:]
	}
	if len(rest) > maxMessage {
		rest = nil
	}
	a.streams[c.Socket] = slices.Clone(rest)
	return all
}

// join gives an answer to the hits whose question it answers: they have the same id, name, type and
// class. The first one counts, unless it says that the server cannot tell, or has to be asked over TCP.
func (a *answers) join(answer *Answer) {
	q, joined := answer.Question, false
	for _, h := range a.asked[question{strconv.Itoa(int(answer.ID)), q.Name, q.Type, q.Class}] {
		old := a.of[h.Event.ID]
		if old != nil && (old.Code == "NOERROR" || old.Code == "NXDOMAIN") && !old.Truncated || answer.Time.Before(sent(h).Add(-time.Millisecond)) {
			continue
		}
		a.of[h.Event.ID], joined = answer, true
	}
	for _, address := range answer.Addresses {
		names := a.told[address]
		if len(names) < maxNames && !slices.Contains(names, q.Name) && (names != nil || len(a.told) < maxTold) {
			a.told[address] = append(names, q.Name)
		}
		if joined && !slices.Contains(a.to[address], answer) {
			a.to[address] = append(a.to[address], answer)
		}
	}
}

// connected takes a connect, for the latest answer to each question.
func (a *answers) connected(l *line, c *proof.Call, by relation) {
	for _, answer := range a.telling(l.at, c.Peer()) {
		answer.connection(Connection{
			Place: l.place(), TID: l.tid, Time: l.at, To: c.Peer(), Transport: c.Transport, Error: c.Error, Child: by == child,
			Also: slices.DeleteFunc(slices.Clone(a.told[c.Peer().Addr()]), func(name string) bool { return name == answer.Question.Name }),
		})
	}
}

// sent takes what was sent to an address. A datagram needs no connection.
func (a *answers) sent(l *line, c *proof.Call, by relation) {
	for _, m := range c.Messages {
		one := *c
		one.Messages = []proof.Message{m}
		to := one.Peer()
		its := func(o Connection) bool { return o.To == to && (o.Transport == c.Transport || o.Transport == "") }
		for _, answer := range a.telling(l.at, to) {
			if c.Transport == "udp" && !slices.ContainsFunc(answer.Connections, its) {
				answer.connection(Connection{Place: l.place(), TID: l.tid, Time: l.at, To: to, Transport: c.Transport, Child: by == child})
			}
			if i := slices.IndexFunc(answer.Connections, its); i >= 0 {
				answer.Connections[i].Bytes += int64(max(0, m.Size))
			}
		}
	}
}

func (a *Answer) connection(c Connection) {
	if len(a.Connections) == maxConnections {
		a.More++
		return
	}
	a.Connections = append(a.Connections, c)
}

// telling returns the answers to hits that told an address shortly before, the latest to each
// question. Whom the program asked is no address that it was told.
func (a *answers) telling(at time.Time, to netip.AddrPort) (all []*Answer) {
	for _, answer := range slices.Backward(a.to[to.Addr()]) {
		if at.Sub(answer.Time) > follow {
			break
		}
		if to != answer.From && !slices.ContainsFunc(all, func(later *Answer) bool { return later.Question == answer.Question }) {
			all = append(all, answer)
		}
	}
	return all
}
