package dns

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// ReadName reads the name at an offset as [ReadWire] does, and returns its [Text].
func ReadName(b []byte, at int) (name string, end int, ok bool) {
	wire, end, ok := ReadWire(b, at)
	return Text(wire), end, ok
}

// ReadWire reads the name at an offset: labels, each after its length, ending with length 0 or
// with a pointer to an earlier name (RFC 1035, section 4.1.4). It returns the labels in lower case, each after its
// length, without that end.
func ReadWire(b []byte, at int) (name []byte, end int, ok bool) {
	for {
		if at >= len(b) {
			return nil, 0, false
		}
		n := int(b[at])
		switch {
		case n == 0:
			if end == 0 {
				end = at + 1
			}
			return name, end, true
		case n >= 0xc0:
			if at+1 >= len(b) {
				return nil, 0, false
			}
			to := (n&0x3f)<<8 | int(b[at+1])
			if to >= at { // only backwards, so that the loop ends
				return nil, 0, false
			}
			if end == 0 {
				end = at + 2
			}
			at = to
			continue
		case n > 63 || at+1+n > len(b) || len(name)+1+n > 254:
			return nil, 0, false
		}
		name = append(name, byte(n))
		for _, c := range b[at+1 : at+1+n] {
			if c >= 'A' && c <= 'Z' {
				c += 'a' - 'A'
			}
			name = append(name, c)
		}
		at += 1 + n
	}
}

// Text writes a name as in a master file, without the last dot; bytes that are not printable are written
// \DDD (RFC 4343, section 2.1).
func Text(wire []byte) string {
	var s strings.Builder
	for len(wire) > 0 {
		n := int(wire[0])
		if s.Len() > 0 {
			s.WriteByte('.')
		}
		for _, c := range wire[1 : 1+n] {
			if c > ' ' && c <= '~' && c != '.' && c != '\\' {
				s.WriteByte(c)
			} else {
				fmt.Fprintf(&s, `\%03d`, c)
			}
		}
		wire = wire[1+n:]
	}
	return s.String()
}

// ClassName names a class (RFC 1035, 2136). Other classes mean that this is not DNS. In
// multicast DNS the first bit asks for an answer to the sender alone (RFC 6762).
func ClassName(c uint16) (name string, known bool) {
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

// TypeName names a type as DNS tools do: TYPE1234 if it has no name (RFC 3597).
func TypeName(t uint16) string {
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
	case 255:
		return "ANY"
	}
	if s, named := strings.CutPrefix(dnsmessage.Type(t).String(), "Type"); named {
		return s
	}
	return "TYPE" + strconv.Itoa(int(t))
}
