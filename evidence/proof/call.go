package proof

import (
	"bytes"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"culprit/internal/strace"
)

// maxData bounds the bytes that are kept of one message: a datagram is never longer.
const maxData = 64 << 10

// maxSocket bounds a socket's description; the longest has two IPv6 addresses.
const maxSocket = 160

// A parser reads the arguments and the result of one call. It needs no grammar of
// strace's structures: it goes from token to token and knows the few that matter.
type parser struct {
	text    []byte // from the descriptor on
	at      int
	depth   int // of brackets; 1 in the arguments themselves
	arg     int // which argument, from 0
	scratch []byte

	messages []Message

	key      string         // the last word, if it says what the next value is
	base     []byte         // the string of iov_base, until its iov_len comes
	based    bool           // base is set
	holed    bool           // Data of the current message lacks bytes at its end
	name     netip.AddrPort // the address that is being read
	inName   bool
	more     bool // the flags have MSG_MORE
	complete bool // the call's closing bracket came
}

// parse returns what was sent. !ok means that nothing was.
func (p *parser) parse(call string) (s Send, ok bool) {
	_, form, _ := formOf(call)
	if s.FD = -1; form != showsNothing {
		p.socket(&s)
	}
	p.depth = 1
	switch {
	case form == showsCork && s.Transport != "tcp":
		return s, p.cork(&s)
	case form != showsBytes || s.Hidden:
		return s, p.hidden(call, &s)
	}
	switch call {
	case "writev", "pwritev2", "sendmsg":
		p.begin()
	case "sendmmsg": // each message begins with msg_hdr
	default:
		p.begin()
		p.key = "buffer"
	}
	p.walk()
	if p.based { // the line ended before the length
		p.piece(-1)
	}
	n, sent := p.result()
	if !sent {
		return s, false
	}
	s.Took = p.took()
	if n >= 0 && call == "sendmmsg" {
		p.messages = p.messages[:min(n, len(p.messages))]
	} else if n >= 0 {
		p.last().shorten(n)
	}
	for _, m := range p.messages {
		if m.More = p.more; m.Size != 0 {
			s.Messages = append(s.Messages, m)
		}
	}
	return s, len(s.Messages) > 0
}

// cork reads what setsockopt(UDP_CORK) did. !ok means that it failed.
func (p *parser) cork(s *Send) (ok bool) {
	value, ok := bytes.CutPrefix(p.text[p.at:], []byte(corked))
	if !ok || len(value) == 0 {
		return false
	}
	if s.Cork = CorkOn; value[0] == '0' {
		s.Cork = CorkOff
	}
	p.walk()
	s.Took = p.took()
	return !p.complete || strace.Result(p.text[p.at:]) != strace.Failed
}

// hidden reads how a call ended whose line does not show the bytes. !ok means that it sent nothing.
func (p *parser) hidden(call string, s *Send) (ok bool) {
	s.Hidden = true
	p.walk()
	s.Took = p.took()
	// io_uring may send while the thread only waits, or is interrupted.
	_, sent := p.result()
	return sent || call == "io_uring_enter" || call == "setsockopt" && strace.Result(p.text[p.at:]) == 0
}

// took returns how long the call took, -1 if unknown.
func (p *parser) took() time.Duration {
	if took, ok := strace.Took(p.text[p.at:]); ok && p.complete {
		return took
	}
	return -1
}

// shorten notes that only n bytes were sent.
func (m *Message) shorten(n int) {
	m.Size = n
	m.Data = m.Data[:min(n, len(m.Data))]
}

// socket reads "3<UDP:[127.0.0.1:4->127.0.0.1:53]>" or "3".
func (p *parser) socket(s *Send) {
	for p.at < len(p.text) && isDigit(p.text[p.at]) {
		p.at++
	}
	if n, err := strconv.ParseUint(string(p.text[:min(p.at, 10)]), 10, 31); err == nil {
		s.FD = int(n)
	}
	s.Socket = string(p.text[:min(p.at, maxSocket)])
	if p.at == len(p.text) || p.text[p.at] != '<' {
		return
	}
	what := p.text[p.at+1 : min(len(p.text), p.at+maxSocket)]
	end := bytes.Index(what, []byte("]>"))
	if end < 0 {
		return
	}
	p.at += 1 + end + len("]>")
	s.Socket = string(what[:end+1])
	kind, addresses, _ := strings.Cut(s.Socket[:end], ":[")
	switch kind {
	case "UDP", "UDPv6":
		s.Transport = "udp"
	case "TCP", "TCPv6":
		s.Transport = "tcp"
	case "RAW", "RAWv6": // the program may have written the headers, too
		s.Hidden = true
		return
	}
	local, remote, _ := strings.Cut(addresses, "->")
	s.Local, s.Remote = addrPort(local), addrPort(remote)
}

// addrPort reads an address. The number of an inode gives the zero AddrPort.
func addrPort(s string) netip.AddrPort {
	a, err := netip.ParseAddrPort(s)
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// walk goes through the arguments to the bracket that closes them, or to the end.
func (p *parser) walk() {
	for p.at < len(p.text) && !p.complete {
		switch c := p.text[p.at]; {
		case c == '"':
			p.quoted(p.string())
			continue
		case isWord(c):
			p.word(p.takeWord())
			continue
		case c == '(' || c == '[' || c == '{':
			p.depth++
		case c == ')' || c == ']' || c == '}':
			p.depth--
			if c == '}' && p.inName {
				p.inName = false
				if m := p.last(); m != nil {
					m.Remote = p.name
				}
			}
			p.complete = p.depth == 0
		case c == ',' && p.depth == 1:
			p.arg++
		}
		p.at++
	}
}

func isWord(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || isDigit(c) || c == '_' || c == '-'
}

func (p *parser) takeWord() []byte {
	begin := p.at
	for p.at < len(p.text) && isWord(p.text[p.at]) {
		p.at++
	}
	return p.text[begin:p.at]
}

// string takes a string, without its quotes. A string that has no end goes to the end of the text.
func (p *parser) string() []byte {
	s, rest, _ := strace.CutQuoted(p.text[p.at:])
	p.at = len(p.text) - len(rest)
	return s
}

func (p *parser) begin() {
	p.messages = append(p.messages, Message{})
	p.holed, p.key = false, ""
}

func (p *parser) last() *Message {
	if len(p.messages) == 0 {
		return nil
	}
	return &p.messages[len(p.messages)-1]
}

// quoted handles a string: bytes that are sent, or an address in text.
func (p *parser) quoted(s []byte) {
	switch {
	case p.inName:
		// inet_addr("127.0.0.1"), or inet_pton(AF_INET6, "::1", &sin6_addr); a scope's
		// if_nametoindex("lo") is no address.
		if a, err := netip.ParseAddr(string(s[:min(len(s), 64)])); err == nil && !p.name.Addr().IsValid() {
			p.name = netip.AddrPortFrom(a.Unmap(), p.name.Port())
		}
	case p.key == "iov_base", p.key == "buffer" && p.arg == 1 && p.depth == 1:
		p.base, p.based = s, true
	}
}

// word handles a word: a number, or a name that says what the next value is.
func (p *parser) word(w []byte) {
	if !isDigit(w[0]) {
		switch string(w) {
		case "msg_hdr":
			p.begin()
		case "sa_family":
			p.inName, p.name = true, netip.AddrPort{}
		case "iov_base", "iov_len", "msg_len", "htons":
			p.key = string(w)
		case "MSG_MORE":
			p.more = p.more || p.depth == 1
		}
		return
	}
	n, err := strconv.Atoi(string(w[:min(len(w), 20)]))
	if err != nil || n > 1<<30 {
		n = -1
	}
	switch {
	case p.inName:
		if p.key == "htons" && n >= 0 && n < 1<<16 {
			p.name = netip.AddrPortFrom(p.name.Addr(), uint16(n))
			p.key = ""
		}
	case p.key == "iov_len":
		p.piece(n)
	case p.key == "msg_len":
		p.key = ""
		if m := p.last(); m != nil && n >= 0 {
			m.shorten(n)
		}
	case p.key == "buffer" && p.arg == 2 && p.depth == 1:
		p.piece(n)
	}
}

// piece adds a buffer of n bytes to the current message. strace showed those of base. n is -1 if
// unknown.
func (p *parser) piece(n int) {
	base := p.base
	p.base, p.based, p.key = nil, false, ""
	m := p.last()
	if m == nil {
		return
	}
	p.scratch = strace.Unquote(p.scratch[:0], base)
	data := p.scratch
	if n >= 0 {
		data = data[:min(len(data), n)]
	}
	if room := maxData - len(m.Data); len(data) > room {
		data = data[:room]
	}
	if !p.holed {
		// After a hole we do not know where bytes belong.
		m.Data = append(m.Data, data...)
		p.holed = len(data) != n
	}
	if n < 0 || m.Size < 0 {
		m.Size = -1
	} else {
		m.Size = min(m.Size+n, 1<<30)
	}
}

// result reads how the call ended. n is -1 if unknown, as the process was killed in it, strace
// ended, or the line is too long.
func (p *parser) result() (n int, sent bool) {
	if !p.complete {
		return -1, true
	}
	returned := strace.Result(p.text[p.at:])
	if returned == strace.Unknown {
		return -1, true
	}
	return int(returned), returned > 0
}
