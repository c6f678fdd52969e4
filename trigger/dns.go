package trigger

import (
	"encoding/binary"
	"strconv"

	"culprit/internal/dns"
	"culprit/internal/event"
	"culprit/internal/pattern"
)

// maxQuestions bounds the questions taken from one packet. Resolvers send one question in a
// message, but several messages can share a TCP segment.
const maxQuestions = 16

// question is a question of a DNS message.
type question struct {
	event.DNS
	wire   []byte // as it was asked: name, type and class; a name may end in a pointer
	name   []byte // see [dns.ReadWire]
	answer bool   // it is of an answer
}

// questions reads the DNS questions of a payload: one message over UDP, any number of messages
// over TCP, each after its length (RFC 1035, section 4.2.2). It returns none if the payload is
// not DNS or ends before its question does.
func questions(transport string, payload []byte) []question {
	if transport != "tcp" {
		return message(nil, payload)
	}
	var all []question
	for rest := payload; len(rest) > 2 && len(all) < maxQuestions; {
		n := int(binary.BigEndian.Uint16(rest))
		rest = rest[2:]
		n = min(n, len(rest)) // the end may be in the next segment
		all = message(all, rest[:n])
		rest = rest[n:]
	}
	if len(all) == 0 {
		// Some resolvers send the length in a segment of its own.
		all = message(nil, payload)
	}
	return all
}

// maxPlaces bounds the places in a payload where later looks for a message.
const maxPlaces = 16

// headerLen is the length of the header of a DNS message.
const headerLen = 12

// later returns the question in a domain that is not in the first message of a UDP payload, or
// nil. One system call can send many datagrams (UDP_SEGMENT in man 7 udp), which pass OUTPUT as
// one packet that does not say where each begins. So later looks before the name for what can
// be the header of a query with one question.
func later(pat pattern.Pattern, payload []byte) []question {
	const maxName = 255
	places := 0
	for at := range pat.Find(payload) {
		if places++; places > maxPlaces {
			break
		}
		for name := at; name >= max(headerLen, at-maxName); name-- {
			if asked := oneQuestion(payload[name-headerLen:]); len(asked) > 0 && pat.Contains(asked[0].Question.Name) {
				return asked
			}
		}
	}
	return nil
}

// oneQuestion returns the question of what can be a query with one question, or nil.
func oneQuestion(b []byte) []question {
	if len(b) < headerLen || b[2]&dns.IsAnswer != 0 || binary.BigEndian.Uint16(b[4:]) != 1 || binary.BigEndian.Uint16(b[6:]) != 0 {
		return nil // an answer, or not one question and no answer
	}
	return message(nil, b)
}

// message appends the questions of one DNS message.
func message(all []question, b []byte) []question {
	if len(b) < headerLen {
		return all
	}
	count := int(binary.BigEndian.Uint16(b[4:]))
	if count == 0 || count > maxQuestions {
		return all
	}
	id := strconv.Itoa(int(binary.BigEndian.Uint16(b)))
	at := headerLen
	for range count {
		name, end, ok := dns.ReadWire(b, at)
		if !ok || end+4 > len(b) || len(all) == maxQuestions {
			return all
		}
		class, known := dns.ClassName(binary.BigEndian.Uint16(b[end+2:]))
		if !known {
			return all // text that happened to look like a name
		}
		all = append(all, question{event.DNS{ID: id, Question: event.Question{
			Name:  dns.Text(name),
			Type:  dns.TypeName(binary.BigEndian.Uint16(b[end:])),
			Class: class,
		}}, b[at : end+4], name, b[2]&dns.IsAnswer != 0})
		at = end + 4
	}
	return all
}
