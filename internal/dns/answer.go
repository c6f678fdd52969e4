// Package dns reads DNS messages (RFC 1035), whose writer may be hostile.
//
// It reads names itself, because dnsmessage refuses labels with a dot in them. A program could hide
// a lookup of x\.y.badzone.test that way, and resolvers do answer it.
package dns

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// Bounds of an answer.
const (
	maxQuestions = 16
	maxRecords   = 64
	maxChain     = 16  // aliases that are followed
	maxData      = 255 // characters of a record's data
	headerLen    = 12
)

// An Answer is a message that answers a question.
type Answer struct {
	ID       uint16
	Question Question // the first, as it is repeated in the answer
	Code     string   // NOERROR, NXDOMAIN, …
	// Truncated says that the server had no room in UDP for all records.
	Truncated bool
	Records   []Record // of the answer section
	// Missing counts records that are not in Records: the message was cut, or has too many.
	Missing int
}

// A Question asks for a name; see [ReadName], [TypeName] and [ClassName].
type Question struct{ Name, Type, Class string }

// A Record says something about a name.
type Record struct {
	Name, Type, Class string
	TTL               uint32 // seconds
	Data              string // as in a master file
	Address           netip.Addr
}

// ReadAnswer reads an answer, whose end may be missing. !ok: it is none.
func ReadAnswer(b []byte) (a Answer, ok bool) {
	first, at, ok := questions(b)
	if !ok || b[2]&IsAnswer == 0 {
		return a, false
	}
	a = Answer{ID: binary.BigEndian.Uint16(b), Question: first, Code: codeName(b[3] & 0xf), Truncated: b[2]&0x02 != 0}
	records := int(binary.BigEndian.Uint16(b[6:]))
	for i := range records {
		r, end, ok := readRecord(b, at)
		if !ok || i == maxRecords {
			a.Missing = records - i
			break
		}
		a.Records = append(a.Records, r)
		at = end
	}
	return a, true
}

// ReadQuestion reads a question. !ok: it is none.
func ReadQuestion(b []byte) (q Question, ok bool) {
	q, _, ok = questions(b)
	return q, ok && b[2]&IsAnswer == 0
}

// IsAnswer is a bit in the third byte of a message.
const IsAnswer = 0x80

// questions reads the first question of a message, and where the last one ends.
func questions(b []byte) (first Question, end int, ok bool) {
	if len(b) < headerLen {
		return first, 0, false
	}
	n := int(binary.BigEndian.Uint16(b[4:]))
	if n == 0 || n > maxQuestions {
		return first, 0, false
	}
	end = headerLen
	for i := range n {
		name, at, ok := ReadName(b, end)
		if !ok || at+4 > len(b) {
			return first, 0, false
		}
		class, known := ClassName(binary.BigEndian.Uint16(b[at+2:]))
		if !known { // text that happened to look like a name
			return first, 0, false
		}
		if end = at + 4; i == 0 {
			first = Question{name, TypeName(binary.BigEndian.Uint16(b[at:])), class}
		}
	}
	return first, end, true
}

// readRecord reads the record at an offset (RFC 1035, section 4.1.3).
func readRecord(b []byte, at int) (r Record, end int, ok bool) {
	const fixedLen = 10
	name, at, ok := ReadName(b, at)
	if !ok || at+fixedLen > len(b) {
		return r, 0, false
	}
	data := at + fixedLen
	end = data + int(binary.BigEndian.Uint16(b[at+8:]))
	if end > len(b) {
		return r, 0, false
	}
	kind := binary.BigEndian.Uint16(b[at:])
	r = Record{Name: name, Type: TypeName(kind), TTL: binary.BigEndian.Uint32(b[at+4:])}
	r.Class, _ = ClassName(binary.BigEndian.Uint16(b[at+2:]))
	r.read(dnsmessage.Type(kind), b[:end], data)
	if len(r.Data) > maxData {
		r.Data = r.Data[:maxData] + "…"
	}
	return r, end, true
}

// read reads the record's data, from an offset of the message to its end.
func (r *Record) read(kind dnsmessage.Type, b []byte, at int) {
	data := b[at:]
	switch kind {
	case dnsmessage.TypeA, dnsmessage.TypeAAAA:
		want := 4
		if kind == dnsmessage.TypeAAAA {
			want = 16
		}
		if address, ok := netip.AddrFromSlice(data); ok && len(data) == want {
			r.Address, r.Data = address, address.String()
			return
		}
	case dnsmessage.TypeCNAME, dnsmessage.TypeNS, dnsmessage.TypePTR:
		if name, end, ok := ReadName(b, at); ok && end == len(b) {
			r.Data = name
			return
		}
	case dnsmessage.TypeMX:
		if len(data) > 2 {
			if name, end, ok := ReadName(b, at+2); ok && end == len(b) {
				r.Data = fmt.Sprint(binary.BigEndian.Uint16(data), " ", name)
				return
			}
		}
	case dnsmessage.TypeTXT:
		if s, ok := strs(data); ok {
			r.Data = s
			return
		}
	}
	r.Data = fmt.Sprintf(`\# %d %x`, len(data), data) // RFC 3597, section 5
}

// strs writes character strings, each after its length, in quotes.
func strs(data []byte) (string, bool) {
	var s strings.Builder
	for len(data) > 0 {
		n := int(data[0])
		if n >= len(data) {
			return "", false
		}
		if s.Len() > 0 {
			s.WriteByte(' ')
		}
		s.WriteByte('"')
		for _, c := range data[1 : 1+n] {
			switch {
			case c == '"' || c == '\\':
				s.WriteByte('\\')
				s.WriteByte(c)
			case c >= ' ' && c <= '~':
				s.WriteByte(c)
			default:
				fmt.Fprintf(&s, `\%03d`, c)
			}
		}
		s.WriteByte('"')
		data = data[1+n:]
	}
	return s.String(), true
}

// Addresses returns what the name of the question is told to be: the addresses of that name, and of
// the names that it is an alias for. Records of other names say nothing about it.
func (a *Answer) Addresses() (all []netip.Addr) {
	names := map[string]bool{a.Question.Name: true}
	for range maxChain {
		before := len(names)
		for _, r := range a.Records {
			if r.Type == "CNAME" && names[r.Name] {
				names[r.Data] = true
			}
		}
		if len(names) == before {
			break
		}
	}
	for _, r := range a.Records {
		if r.Address.IsValid() && names[r.Name] {
			all = append(all, r.Address)
		}
	}
	return all
}

// codeName names a response code (RFC 1035, section 4.1.1; RFC 2136).
func codeName(code byte) string {
	names := [...]string{"NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET", "NXRRSET", "NOTAUTH", "NOTZONE"}
	if int(code) < len(names) {
		return names[code]
	}
	return "RCODE" + strconv.Itoa(int(code))
}
