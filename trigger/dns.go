package trigger

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/net/dns/dnsmessage"

	"culprit/internal/event"
	"culprit/internal/pattern"
)

// maxQuestions bounds the questions taken from one packet. Resolvers send one question in a
// message, but several messages can share a TCP segment.
const maxQuestions = 16

// question is a question of a DNS message.
type question struct {
	event.DNS
	wire []byte // as it was asked: name, type and class; a name may end in a pointer
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

// later returns the question in a domain that is not in the first message of a UDP payload, or
// nil. One system call can send many datagrams (UDP_SEGMENT in man 7 udp), which pass OUTPUT as
// one packet that does not say where each begins. So later looks before the name for what can
// be the header of a query with one question.
func later(pat pattern.Pattern, payload []byte) []question {
	const headerLen, maxName = 12, 255
	places := 0
	for at := range pat.Find(payload) {
		if places++; places > maxPlaces {
			break
		}
		for name := at; name >= max(headerLen, at-maxName); name-- {
			header := payload[name-headerLen : name]
			if header[2]&0x80 != 0 || binary.BigEndian.Uint16(header[4:]) != 1 || binary.BigEndian.Uint16(header[6:]) != 0 {
				continue // an answer, or not one question and no answer
			}
			if asked := message(nil, payload[name-headerLen:]); len(asked) > 0 && pat.Contains(asked[0].Question.Name) {
				return asked
			}
		}
	}
	return nil
}

// message appends the questions of one DNS message. It reads the names itself, because
// dnsmessage refuses labels with a dot in them. A program could hide a lookup of
// x\.y.badzone.test that way, and resolvers do answer it.
func message(all []question, b []byte) []question {
	const headerLen = 12
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
		name, end, ok := readName(b, at)
		if !ok || end+4 > len(b) || len(all) == maxQuestions {
			return all
		}
		class, known := className(binary.BigEndian.Uint16(b[end+2:]))
		if !known {
			return all // text that happened to look like a name
		}
		all = append(all, question{event.DNS{ID: id, Question: event.Question{
			Name:  name,
			Type:  typeName(dnsmessage.Type(binary.BigEndian.Uint16(b[end:]))),
			Class: class,
		}}, b[at : end+4]})
		at = end + 4
	}
	return all
}

// readName reads the name at an offset: labels, each after its length, ending with length 0 or
// with a pointer to an earlier name (RFC 1035, section 4.1.4). It returns the name as in a
// master file, in lower case and without the last dot; bytes that are not printable are written
// \DDD (RFC 4343, section 2.1).
func readName(b []byte, at int) (name string, end int, ok bool) {
	var s strings.Builder
	wire := 0
	for {
		if at >= len(b) {
			return "", 0, false
		}
		n := int(b[at])
		switch {
		case n == 0:
			if end == 0 {
				end = at + 1
			}
			return s.String(), end, true
		case n >= 0xc0:
			if at+1 >= len(b) {
				return "", 0, false
			}
			to := (n&0x3f)<<8 | int(b[at+1])
			if to >= at { // only backwards, so that the loop ends
				return "", 0, false
			}
			if end == 0 {
				end = at + 2
			}
			at = to
			continue
		case n > 63 || at+1+n > len(b):
			return "", 0, false
		}
		if wire += n + 1; wire > 254 {
			return "", 0, false
		}
		if s.Len() > 0 {
			s.WriteByte('.')
		}
		for _, c := range b[at+1 : at+1+n] {
			switch {
			case c >= 'A' && c <= 'Z':
				s.WriteByte(c + 'a' - 'A')
			case c > ' ' && c <= '~' && c != '.' && c != '\\':
				s.WriteByte(c)
			default:
				fmt.Fprintf(&s, `\%03d`, c)
			}
		}
		at += 1 + n
	}
}

// className names a class (RFC 1035, 2136). Other classes mean that this is not DNS. In
// multicast DNS the first bit asks for an answer to the sender alone (RFC 6762).
func className(c uint16) (name string, known bool) {
	switch c &^ 0x8000 {
	case 1:
		return "IN", true
	case 3:
		return "CH", true
	case 4:
		return "HS", true
	case 254:
		return "NONE", true
	case 255:
		return "ANY", true
	}
	return "", false
}

// typeName names a type as DNS tools do: TYPE1234 if it has no name (RFC 3597).
func typeName(t dnsmessage.Type) string {
	switch t {
	case 35:
		return "NAPTR"
	case 43:
		return "DS"
	case 48:
		return "DNSKEY"
	case 52:
		return "TLSA"
	case 64:
		return "SVCB"
	case 65:
		return "HTTPS"
	case 257:
		return "CAA"
	case dnsmessage.TypeALL:
		return "ANY"
	}
	if s, named := strings.CutPrefix(t.String(), "Type"); named {
		return s
	}
	return "TYPE" + strconv.Itoa(int(t))
}
