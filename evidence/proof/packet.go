package proof

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strings"

	"culprit/internal/event"
)

// packet is the part of a hit's packet that can be compared with sends.
type packet struct {
	transport string         // udp or tcp
	src, dst  netip.AddrPort // without ports in later fragments
	payload   []byte         // the program's bytes in the packet
	// offset is where the payload begins in the datagram, and total the length of the
	// datagram, -1 if unknown (UDP only).
	offset, total int
	truncated     bool   // the packet was longer than nflog.snaplen
	name          []byte // the first question's name on the wire, in lower case
}

const (
	protocolTCP = 6
	protocolUDP = 17
)

// readPacket parses a hit's packet. !ok means that it carries no bytes that a program sent over UDP
// or TCP.
//
// We do not use gopacket, as we need to know where fragments begin that have no transport header.
func readPacket(h *event.Hit) (p packet, ok bool) {
	body, protocol, fragment, ok := p.internet(h.Packet)
	if !ok {
		return p, false
	}
	p.truncated = p.truncated || h.Culprit.Truncated
	p.total = -1
	switch {
	case protocol == protocolUDP && fragment > 0:
		p.transport, p.payload, p.offset = "udp", body, fragment-8
	case protocol == protocolUDP && len(body) >= 8:
		p.ports(body)
		p.transport, p.payload = "udp", body[8:]
		if n := int(binary.BigEndian.Uint16(body[4:])) - 8; n >= 0 {
			p.total = n
			p.payload = p.payload[:min(len(p.payload), n)]
		}
	case protocol == protocolTCP && fragment > 0:
		p.transport, p.payload = "tcp", body
	case protocol == protocolTCP && len(body) >= 20:
		p.ports(body)
		header := int(body[12]>>4) * 4
		p.transport, p.payload = "tcp", body[min(len(body), max(20, header)):]
	default:
		return p, false
	}
	if h.DNS != nil {
		p.name = wireName(h.DNS.Question.Name)
	}
	return p, len(p.payload) > 0 && p.offset >= 0
}

func (p *packet) ports(b []byte) {
	p.src = netip.AddrPortFrom(p.src.Addr(), binary.BigEndian.Uint16(b))
	p.dst = netip.AddrPortFrom(p.dst.Addr(), binary.BigEndian.Uint16(b[2:]))
}

// internet reads the IP header (RFC 791, RFC 8200). It returns what follows, its protocol, and at
// which byte of the unfragmented packet's body it begins.
func (p *packet) internet(b []byte) (body []byte, protocol byte, fragment int, ok bool) {
	switch {
	case len(b) >= 20 && b[0]>>4 == 4:
		length, header := int(binary.BigEndian.Uint16(b[2:])), int(b[0]&0xf)*4
		if header < 20 || header > len(b) {
			return nil, 0, 0, false
		}
		body = p.cut(b, length, header)
		p.src, p.dst = address(b[12:16]), address(b[16:20])
		return body, b[9], int(binary.BigEndian.Uint16(b[6:])&0x1fff) * 8, true
	case len(b) >= 40 && b[0]>>4 == 6:
		length := int(binary.BigEndian.Uint16(b[4:]))
		if length > 0 { // else it is a jumbogram, or longer than 64 KiB until the device splits it
			length += 40
		}
		body = p.cut(b, length, 40)
		p.src, p.dst = address(b[8:24]), address(b[24:40])
		body, protocol, fragment = extensions(body, b[6])
		return body, protocol, fragment, true
	}
	return nil, 0, 0, false
}

// cut removes the header, and notes whether bytes are missing. The length is 0 if the network device
// will split the packet.
func (p *packet) cut(b []byte, length, header int) []byte {
	p.truncated = length > len(b)
	if length >= header {
		b = b[:min(len(b), length)]
	}
	return b[header:]
}

// extensions skips IPv6's extension headers.
func extensions(body []byte, next byte) (rest []byte, protocol byte, fragment int) {
	for len(body) >= 8 {
		n := 0
		switch next {
		case 0, 43, 60: // hop-by-hop, routing, destination
			n = int(body[1])*8 + 8
		case 44: // fragment
			n = 8
			fragment = int(binary.BigEndian.Uint16(body[2:]) &^ 7)
			if fragment > 0 {
				return body[8:], body[0], fragment
			}
		case 51: // authentication
			n = int(body[1])*4 + 8
		default:
			return body, next, 0
		}
		next = body[0]
		body = body[min(n, len(body)):]
	}
	return body, next, 0
}

func address(b []byte) netip.AddrPort {
	a, _ := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(a.Unmap(), 0)
}

// wireName encodes a name of a hit for the wire: there, labels are between dots, and other bytes
// are \DDD.
func wireName(name string) []byte {
	var wire []byte
	for label := range strings.SplitSeq(name, ".") {
		at := len(wire)
		wire = append(wire, 0)
		for i := 0; i < len(label); i++ {
			c := label[i]
			if c == '\\' && i+3 < len(label) {
				c = (label[i+1]-'0')*100 + (label[i+2]-'0')*10 + label[i+3] - '0'
				i += 3
			}
			wire = append(wire, c)
		}
		wire[at] = byte(len(wire) - at - 1)
	}
	return wire
}

// matched returns the end of the part of the payload for which the packet was logged: the name in
// its first question, if known.
func (p *packet) matched() (end int, known bool) {
	if len(p.name) > 0 {
		if i := bytes.Index(lower(p.payload), p.name); i >= 0 {
			return i + len(p.name), true
		}
	}
	return len(p.payload), false
}

// lower is for ASCII only: bytes.ToLower would rewrite what is not UTF-8.
func lower(b []byte) []byte {
	l := bytes.Clone(b)
	for i, c := range l {
		if c >= 'A' && c <= 'Z' {
			l[i] = c + 'a' - 'A'
		}
	}
	return l
}
