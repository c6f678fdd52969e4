package proof

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"culprit/internal/event"
)

var start = time.Unix(1700000000, 0)

func at(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }

// query is a DNS message that asks for x.badzone.test.
func query(id byte) string {
	return "\x00" + string(id) + "\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01x\abadzone\x04test\x00\x00\x01\x00\x01"
}

const local, remote = "192.0.2.1:4000", "192.0.2.53:53"

// makePacket makes an IP packet. A flow is "udp 192.0.2.1:4000 192.0.2.53:53".
func makePacket(flow, payload string) []byte {
	f := strings.Fields(flow)
	src, dst := netip.MustParseAddrPort(f[1]), netip.MustParseAddrPort(f[2])
	body := binary.BigEndian.AppendUint16(nil, src.Port())
	body = binary.BigEndian.AppendUint16(body, dst.Port())
	protocol := byte(protocolUDP)
	if f[0] == "tcp" {
		protocol = protocolTCP
		body = append(body, 0, 0, 0, 1, 0, 0, 0, 2, 8<<4, 0x18, 0, 0, 0, 0, 0, 0)
		body = append(body, make([]byte, 12)...) // options
	} else {
		body = binary.BigEndian.AppendUint16(body, uint16(8+len(payload)))
		body = append(body, 0, 0)
	}
	return internetPacket(protocol, src.Addr(), dst.Addr(), 0, append(body, payload...))
}

// internetPacket puts an IP header before a body. A fragment's begin is given in
// bytes, and puts a fragment header into IPv6.
func internetPacket(protocol byte, src, dst netip.Addr, fragment uint16, body []byte) []byte {
	var b []byte
	if src.Is4() {
		b = []byte{0x45, 0, 0, 0, 0, 1, 0, 0, 64, protocol, 0, 0}
		binary.BigEndian.PutUint16(b[2:], uint16(20+len(body)))
		binary.BigEndian.PutUint16(b[6:], fragment/8)
		b = append(append(b, src.AsSlice()...), dst.AsSlice()...)
		return append(b, body...)
	}
	if fragment > 0 {
		header := []byte{protocol, 0, 0, 0, 0, 0, 0, 1}
		binary.BigEndian.PutUint16(header[2:], fragment)
		protocol, body = 44, append(header, body...)
	}
	b = []byte{0x60, 0, 0, 0, 0, 0, protocol, 64}
	binary.BigEndian.PutUint16(b[4:], uint16(len(body)))
	b = append(append(b, src.AsSlice()...), dst.AsSlice()...)
	return append(b, body...)
}

func hit(ms int, packet []byte) *event.Hit {
	return &event.Hit{
		Timestamp: at(ms), Packet: packet, Rule: event.Rule{Name: "badzone"},
		DNS: &event.DNS{Question: event.Question{Name: "x.badzone.test"}},
	}
}

// send is a send of one message from a socket that is shown as "udp LOCAL REMOTE",
// where "-" is not shown. Its line is its number.
func send(line int64, ms int, socket string, data string, edit ...func(*Send)) Send {
	f := strings.Fields(socket)
	s := Send{
		TID: 812, Time: at(ms), Syscall: "sendto", Line: line, Socket: socket, Transport: strings.Trim(f[0], "-"),
		Messages: []Message{{Data: []byte(data), Size: len(data)}},
	}
	if f[1] != "-" {
		s.Local = netip.MustParseAddrPort(f[1])
	}
	if f[2] != "-" {
		s.Remote = netip.MustParseAddrPort(f[2])
	}
	for _, e := range edit {
		e(&s)
	}
	return s
}

func cutTo(n int) func(*Send) {
	return func(s *Send) { s.Messages[0].Data = s.Messages[0].Data[:n] }
}

func more(s *Send) { s.Messages[0].More = true }

// cork is a setsockopt(UDP_CORK).
func cork(line int64, ms int, socket string, to Cork) Send {
	return send(line, ms, socket, "", func(s *Send) { s.Syscall, s.Messages, s.Cork = "setsockopt", nil, to })
}

// other makes a send that of another thread.
func other(s *Send) { s.TID++ }

func named(addr string) func(*Send) {
	return func(s *Send) { s.Messages[0].Remote = netip.MustParseAddrPort(addr) }
}

func TestMatch(t *testing.T) {
	const udp = "udp " + local + " " + remote
	const tcp = "tcp " + local + " " + remote
	const six = "udp [2001:db8::1]:4000 [2001:db8::53]:53"
	q := query(1)
	framed := "\x00" + string(rune(len(q))) + q
	long := q + strings.Repeat("z", 3000)
	header := string(makePacket(udp, long)[20:28])
	src4, dst4 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.53")
	src6, dst6 := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::53")
	first6 := internetPacket(protocolUDP, src6, dst6, 0, []byte(header + long)[:1448])
	last := []byte(header + long)[1448:]
	type sends = []Send
	for _, test := range []struct {
		name     string
		packet   []byte
		sends    []Send
		line     int64 // 0: no proof
		probable bool
	}{
		{"all agrees", makePacket(udp, q), sends{send(1, 0, udp, q)}, 1, false},
		{"other bytes", makePacket(udp, q), sends{send(1, 0, udp, query(2))}, 0, false},
		{"one byte less", makePacket(udp, q), sends{send(1, 0, udp, q[:len(q)-1])}, 0, false},
		{"other transport", makePacket(udp, q), sends{send(1, 0, tcp, q)}, 0, false},
		{"other port", makePacket(udp, q), sends{send(1, 0, "udp 192.0.2.1:4001 -", q)}, 0, false},
		{"not bound to an address", makePacket(udp, q), sends{send(1, 0, "udp 0.0.0.0:4000 -", q)}, 1, false},
		{"bound to all of IPv6", makePacket(udp, q), sends{send(1, 0, "udp [::]:4000 -", q)}, 1, false},
		{"only where to", makePacket(udp, q), sends{send(1, 0, "udp - -", q, named(remote))}, 1, false},
		{"named another", makePacket(udp, q), sends{send(1, 0, "udp - -", q, named("192.0.2.54:53"))}, 0, false},
		{"named another, port known", makePacket(udp, q), sends{send(1, 0, udp, q, named("192.0.2.54:53"))}, 0, false},
		{"no addresses", makePacket(udp, q), sends{send(1, 0, "udp - -", q)}, 1, true},
		{"connected elsewhere since", makePacket(udp, q), sends{send(1, 0, "udp 192.0.2.1:4000 192.0.2.99:53", q)}, 1, true},
		{"connected elsewhere, port not known", makePacket(udp, q), sends{send(1, 0, "udp - 192.0.2.99:53", q)}, 0, false},
		{"strace cut", makePacket(udp, q), sends{send(1, 0, udp, q, cutTo(8))}, 1, true},
		{"strace cut too much", makePacket(udp, q), sends{send(1, 0, udp, q, cutTo(3))}, 0, false},
		{"strace cut, other length", makePacket(udp, q), sends{send(1, 0, udp, q+"z", cutTo(8))}, 0, false},
		{"packet cut", makePacket(udp, q)[:50], sends{send(1, 0, udp, q)}, 1, true},
		{"packet cut, other length", makePacket(udp, q)[:50], sends{send(1, 0, udp, q+"z")}, 0, false},
		{"too early", makePacket(udp, q), sends{send(1, -5500, udp, q)}, 0, false},
		{"a little late", makePacket(udp, q), sends{send(1, 140, udp, q)}, 1, false},
		{"too late", makePacket(udp, q), sends{send(1, 160, udp, q)}, 0, false},
		{"nearest", makePacket(udp, q), sends{send(1, 10, udp, q), send(2, 90, udp, q), send(3, 110, udp, q)}, 2, false},
		{"sure before near", makePacket(udp, q), sends{send(1, 10, udp, q), send(2, 90, "udp - -", q)}, 1, false},
		{"IPv6", makePacket(six, q), sends{send(1, 0, six, q)}, 1, false},
		{"first fragment", first6, sends{send(1, 0, six, long)}, 1, false},
		{"later fragment", internetPacket(protocolUDP, src6, dst6, 1448, last), sends{send(1, 0, six, long)}, 1, true},
		{"later fragment of IPv4", internetPacket(protocolUDP, src4, dst4, 1448, last), sends{send(1, 0, udp, long)}, 1, true},
		{"later fragment of another", internetPacket(protocolUDP, src4, dst4, 1440, last), sends{send(1, 0, udp, q+strings.Repeat("y", 3000))}, 0, false},

		{"TCP", makePacket(tcp, framed), sends{send(1, 0, tcp, framed)}, 1, false},
		{"TCP, length apart", makePacket(tcp, framed), sends{send(1, 0, tcp, framed[:2]), send(2, 1, tcp, q)}, 2, false},
		{"TCP, length in a segment apart", makePacket(tcp, q), sends{send(1, 0, tcp, framed[:2]), send(2, 1, tcp, q)}, 2, false},
		{"TCP, in pieces", makePacket(tcp, framed), sends{send(1, 0, tcp, framed[:9]), send(2, 1, tcp, framed[9:30]), send(3, 2, tcp, framed[30:])}, 2, false},
		{"TCP, a part of a write", makePacket(tcp, framed), sends{send(1, 0, tcp, long+framed+long)}, 1, false},
		{"TCP, from a write into the next", makePacket(tcp, framed), sends{send(1, 0, tcp, long+framed[:5]), send(2, 1, tcp, framed[5:]+long)}, 2, false},
		{"TCP, other connection", makePacket(tcp, framed), sends{send(1, 0, "tcp 192.0.2.1:4001 "+remote, framed)}, 0, false},
		{"TCP, cut", makePacket(tcp, framed), sends{send(1, 0, tcp, long), send(2, 1, tcp, framed, cutTo(20))}, 2, true},
		{"TCP, cut with others", makePacket(tcp, framed+framed), sends{send(1, 0, tcp, framed, cutTo(20)), send(2, 1, tcp, framed, cutTo(20))}, 1, true},
		{"TCP, cut before", makePacket(tcp, framed), sends{send(1, 0, tcp, long, cutTo(20)), send(2, 1, tcp, framed)}, 2, false},
		{"TCP, dig's stale address", makePacket(tcp, framed), sends{send(1, 0, "tcp 0.0.0.0:4000 -", framed)}, 1, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := hit(100, test.packet)
			for order, match := range orders {
				m := NewMatcher()
				matches := match(m, []*event.Hit{h}, test.sends)
				switch {
				case test.line == 0 && len(matches) == 0:
				case len(matches) != 1:
					t.Errorf("%s: %d proofs", order, len(matches))
				case matches[0].Hit != h || matches[0].Trace != "trace" || matches[0].Send.Line != test.line || matches[0].Probable != test.probable:
					t.Errorf("%s: line %d, probable %t; want %d, %t", order, matches[0].Send.Line, matches[0].Probable, test.line, test.probable)
				}
			}
		})
	}
}

// Packets that several system calls made are proven by all of them, in order.
func TestParts(t *testing.T) {
	const udp = "udp " + local + " " + remote
	const tcp = "tcp " + local + " " + remote
	const six = "udp [2001:db8::1]:4000 [2001:db8::53]:53"
	const fresh, bound = "udp - -", "udp 0.0.0.0:4000 -" // as strace shows a socket before its first send, and after it
	q := query(1)
	a, b, c := q[:10], q[10:20], q[20:]
	framed := "\x00" + string(rune(len(q))) + q
	type sends = []Send
	type lines = []int64
	for _, test := range []struct {
		name     string
		packet   []byte
		sends    []Send
		lines    []int64 // the proof's own line is the last
		probable bool
	}{
		{"MSG_MORE", makePacket(udp, q), sends{send(1, 0, udp, a, more), send(2, 1, udp, b, more), send(3, 2, udp, c)}, lines{1, 2, 3}, false},
		{"MSG_MORE, IPv6", makePacket(six, q), sends{send(1, 0, six, a, more), send(2, 1, six, q[10:])}, lines{1, 2}, false},
		{"MSG_MORE, between others", makePacket(udp, q), sends{send(1, 0, udp, q), send(2, 0, udp, a, more), send(3, 1, udp, q[10:]), send(4, 2, udp, "z")}, lines{2, 3}, false},
		{"MSG_MORE, two threads", makePacket(udp, q), sends{send(1, 0, udp, a, more), send(2, 1, udp, q[10:], other)}, lines{1, 2}, false},
		{"MSG_MORE, cut", makePacket(udp, q), sends{send(1, 0, udp, a, more), send(2, 1, udp, q[10:], cutTo(4))}, lines{1, 2}, true},
		{"MSG_MORE, other bytes", makePacket(udp, q), sends{send(1, 0, udp, a, more), send(2, 1, udp, b, more), send(3, 2, udp, strings.ToUpper(c))}, nil, false},
		{"MSG_MORE, one byte more", makePacket(udp, q), sends{send(1, 0, udp, a, more), send(2, 1, udp, q[10:]+"z")}, nil, false},
		{"MSG_MORE, only the last piece", makePacket(udp, q), sends{send(1, 0, udp, "z", more), send(2, 1, udp, q)}, lines{2}, true},
		{"MSG_MORE, never sent", makePacket(udp, q), sends{send(1, 0, udp, q, more)}, lines{1}, true},
		{"MSG_MORE, the first send", makePacket(udp, q), sends{send(1, 0, fresh, a, more, named(remote)), send(2, 1, bound, q[10:], named(remote))}, lines{1, 2}, false},
		{"MSG_MORE, another socket's first send", makePacket(udp, q), sends{send(1, 0, fresh, a, more, named(remote)), send(2, 1, bound, q[10:], named(remote), other)}, nil, false},
		{"MSG_MORE, never sent, then another socket", makePacket(udp, q), sends{send(1, 0, "udp 192.0.2.1:4001 "+remote, a, more), send(2, 1, udp, q)}, lines{2}, false},
		{"one call of two", makePacket(udp, q), sends{send(1, 0, udp, a, more, func(s *Send) {
			s.Messages = append(s.Messages, Message{Data: []byte(b), Size: len(b), More: true})
		}), send(2, 1, udp, c)}, lines{1, 2}, false},
		{"joined, but nothing says so", makePacket(udp, q), sends{send(1, 0, udp, a), send(2, 1, udp, q[10:])}, lines{1, 2}, true},
		{"UDP_CORK", makePacket(udp, q), sends{cork(1, 0, udp, CorkOn), send(2, 0, udp, a), send(3, 1, udp, q[10:]), cork(4, 2, udp, CorkOff)}, lines{2, 3, 4}, false},
		{"UDP_CORK, one send", makePacket(udp, q), sends{cork(1, 0, udp, CorkOn), send(2, 0, udp, q), cork(3, 2, udp, CorkOff)}, lines{2, 3}, false},
		{"UDP_CORK, before the address", makePacket(udp, q), sends{cork(1, 0, fresh, CorkOn), send(2, 0, udp, a), send(3, 1, udp, q[10:]), cork(4, 2, udp, CorkOff)}, lines{2, 3, 4}, false},
		{"UDP_CORK, the second packet", makePacket(udp, q), sends{cork(1, 0, udp, CorkOn), send(2, 0, udp, "z"), cork(3, 0, udp, CorkOff), cork(4, 1, udp, CorkOn), send(5, 1, udp, q), cork(6, 2, udp, CorkOff)}, lines{5, 6}, false},
		{"UDP_CORK, late", makePacket(udp, q), sends{cork(1, -6000, udp, CorkOn), send(2, -6000, udp, q), cork(3, 2, udp, CorkOff)}, lines{2, 3}, false},
		{"UDP_CORK, after it", makePacket(udp, q), sends{cork(1, 0, udp, CorkOn), cork(2, 0, udp, CorkOff), send(3, 0, udp, q)}, lines{3}, false},
		{"TCP, length apart", makePacket(tcp, framed), sends{send(1, 0, tcp, framed[:2]), send(2, 1, tcp, q)}, lines{1, 2}, false},
		{"TCP, length in a segment apart", makePacket(tcp, q), sends{send(1, 0, tcp, framed[:2]), send(2, 1, tcp, q)}, lines{2}, false},
		{"TCP, split in the name", makePacket(tcp, framed), sends{send(1, 0, tcp, framed[:20], more), send(2, 1, tcp, framed[20:])}, lines{1, 2}, false},
		{"TCP, followed by another", makePacket(tcp, framed+"zz"), sends{send(1, 0, tcp, framed[:20]), send(2, 1, tcp, framed[20:]), send(3, 2, tcp, "zz")}, lines{1, 2}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			for order, match := range orders {
				matches := match(NewMatcher(), []*event.Hit{hit(100, test.packet)}, test.sends)
				if len(matches) != 1 {
					if len(matches) > 0 || test.lines != nil {
						t.Errorf("%s: %d proofs", order, len(matches))
					}
					continue
				}
				var got lines
				for _, part := range matches[0].Parts {
					got = append(got, part.Line)
				}
				if got = append(got, matches[0].Send.Line); !slices.Equal(got, test.lines) || matches[0].Probable != test.probable {
					t.Errorf("%s: lines %d, probable %t; want %d, %t", order, got, matches[0].Probable, test.lines, test.probable)
				}
			}
		})
	}
}

// The pieces of a packet whose socket gets another name are forgotten like all others.
func TestRenamed(t *testing.T) {
	m := NewMatcher()
	for i := range 100 {
		m.Send("a", send(int64(3*i), 0, "udp - -", "a", more))
		m.Send("a", send(int64(3*i+1), 0, "udp 0.0.0.0:4000 -", "b", more, other))
		m.Send("a", send(int64(3*i+2), 0, "udp 0.0.0.0:4000 -", "b"))
	}
	if len(m.runs) != 1 || len(m.sends) != 300 || len(m.open) != 1 {
		t.Errorf("%d sockets, %d sends, %d open; want 1, 300, 1", len(m.runs), len(m.sends), len(m.open))
	}
	m.Tick(at(20_000))
	if len(m.runs)+len(m.sends)+len(m.open)+m.sendLen != 0 {
		t.Errorf("%d sockets, %d sends, %d open are kept", len(m.runs), len(m.sends), len(m.open))
	}
}

// A hit waits for a better send for a second, and takes what comes later at once.
func TestSettle(t *testing.T) {
	const udp = "udp " + local + " " + remote
	m := NewMatcher()
	m.Hit(hit(100, makePacket(udp, query(1))))
	m.Send("a", send(1, 0, udp, query(1)))
	if got := m.Tick(at(1050)); len(got) != 0 {
		t.Fatalf("after 950 ms: %+v", got)
	}
	m.Send("b", send(2, 99, udp, query(1)))
	got := m.Tick(at(1100))
	if len(got) != 1 || got[0].Trace != "b" || got[0].Probable {
		t.Fatalf("after 1 s: %+v, want line 2 of b", got)
	}
	if got := m.Send("c", send(3, 50, udp, query(1))); len(got) != 0 {
		t.Errorf("a second proof: %+v", got)
	}
	// The same program sends the same again. One send proves one packet of a rule.
	m.Hit(hit(2000, makePacket(udp, query(1))))
	if got := m.Tick(at(3000)); len(got) != 1 || !got[0].Probable {
		t.Errorf("for a packet whose line was not seen: %+v, want a probable one", got)
	}
	m.Hit(hit(3000, makePacket(udp, query(2))))
	m.Tick(at(4500))
	if got := m.Send("a", send(4, 2999, udp, query(2))); len(got) != 1 {
		t.Errorf("a late line proves %d hits, want 1 at once", len(got))
	}
	m.Hit(hit(5000, makePacket(udp, query(3))))
	m.Tick(at(15000))
	if m.Lost() != (MatcherLost{Unproven: 1}) || len(m.hits)+len(m.sends)+len(m.runs)+m.hitLen+m.sendLen != 0 {
		t.Errorf("after all that: %+v, %+v; want one unproven and nothing kept", m.Lost(), m)
	}
}

// When the clock is set back, what is of the time before is not kept for it to come again,
// and what comes then is proven as ever.
func TestClockSetBack(t *testing.T) {
	const udp, hour = "udp " + local + " " + remote, 3_600_000
	m := NewMatcher()
	m.Send("a", send(1, hour, udp, query(1)))
	m.Hit(hit(hour+1, makePacket(udp, query(2))))
	m.Tick(at(hour + 100))
	m.Send("a", send(2, 0, udp, query(3)))
	m.Hit(hit(1, makePacket(udp, query(3))))
	if got := m.Tick(at(1100)); len(got) != 1 || got[0].Send.Line != 2 || got[0].Probable {
		t.Errorf("after the clock was set back: %+v, want line 2", got)
	}
	m.Tick(at(20_000))
	if m.Lost() != (MatcherLost{Unproven: 1}) || len(m.hits)+len(m.sends)+len(m.runs)+m.hitLen+m.sendLen != 0 {
		t.Errorf("later: %+v, %+v; want one unproven and nothing kept", m.Lost(), m)
	}
}

// Two rules log the same packet: both hits have the proof.
func TestTwoRules(t *testing.T) {
	const udp = "udp " + local + " " + remote
	m := NewMatcher()
	m.Send("a", send(1, 0, udp, query(1)))
	other := hit(1, makePacket(udp, query(1)))
	other.Rule.Name = "other"
	m.Hit(hit(1, makePacket(udp, query(1))))
	m.Hit(other)
	got := m.Close()
	if len(got) != 2 || got[0].Probable || got[1].Probable {
		t.Errorf("%+v, want two that are sure", got)
	}
}

func TestMatcherBounds(t *testing.T) {
	const udp = "udp " + local + " " + remote
	m := NewMatcher()
	for i := range 2 * maxHits {
		m.Hit(hit(i/10, makePacket(udp, query(byte(i)))))
	}
	if len(m.hits) != maxHits || m.lost.Hits != maxHits {
		t.Errorf("%d hits wait, %d were dropped; want %d of both", len(m.hits), m.lost.Hits, maxHits)
	}
	big := strings.Repeat("z", 60000)
	m = NewMatcher()
	for i := range 1000 {
		m.Send("a", send(int64(i), 0, udp, big))
	}
	if m.sendLen > maxSendLen || m.lost.Sends+int64(len(m.sends)) != 1000 {
		t.Errorf("%d sends of %d bytes are kept, %d were dropped", len(m.sends), m.sendLen, m.lost.Sends)
	}
	m = NewMatcher()
	for i := range maxSends + 10 {
		m.Send("a", send(int64(i), 0, udp, "z"))
	}
	if len(m.sends) != maxSends || len(m.runs[socket{"a", udp}]) != maxSends || m.lost.Sends != 10 {
		t.Errorf("%d sends are kept, %d were dropped", len(m.sends), m.lost.Sends)
	}
}

func TestWireName(t *testing.T) {
	for name, want := range map[string]string{
		"x.badzone.test": "\x01x\abadzone\x04test", `a\046b.test`: "\x03a.b\x04test", `\000\255.t`: "\x02\x00\xff\x01t",
	} {
		if got := string(wireName(name)); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

// Whatever the packet and the sends are, nothing breaks, and a proof that is sure
// holds the packet's bytes.
func FuzzMatch(f *testing.F) {
	const udp, tcp = "udp " + local + " " + remote, "tcp " + local + " " + remote
	f.Add(makePacket(udp, query(1)), []byte(query(1)), uint8(0), uint8(0))
	f.Add(makePacket(tcp, query(1)), []byte(query(1)), uint8(9), uint8(20))
	f.Add(makePacket("udp [::1]:4000 [::2]:53", query(1)), []byte(query(1)), uint8(0), uint8(3))
	one, two := netip.MustParseAddr("::1"), netip.MustParseAddr("::2")
	f.Add(internetPacket(protocolUDP, one, two, 8, []byte("abcdefgh")), []byte("abcdefgh"), uint8(0), uint8(0)) // a fragment
	f.Add(internetPacket(protocolTCP, one, two, 8, []byte("abcdefgh")), []byte("abcdefgh"), uint8(0), uint8(0))
	f.Add(internetPacket(60, one, two, 0, append([]byte{51, 0, 0, 0, 0, 0, 0, 0}, "abcdefghijkl"...)), []byte("a"), uint8(0), uint8(0)) // headers before the transport's
	f.Add(internetPacket(44, one, two, 0, append([]byte{17, 0, 0, 0, 0, 0, 0, 0}, "a"...)), []byte("a"), uint8(0), uint8(0))
	f.Add([]byte("G"), []byte("G"), uint8(0), uint8(0))                                         // no packet
	f.Add([]byte("\x4f0000000000000000000000"), []byte("0"), uint8(0), uint8(0))                // its header is longer than it
	f.Add(makePacket(udp, "abcdefgh"), []byte("abcdefghij"), uint8(4), uint8(0))                // two sends, longer than the datagram
	f.Add(makePacket(udp, "abcdefgh"), []byte("abcdefgX"), uint8(4), uint8(0))                  // as long, and other bytes
	f.Add(makePacket(udp, query(1)), []byte(query(1)+query(1)), uint8(len(query(1))), uint8(0)) // either send may have been it
	f.Add(makePacket(tcp, "CDEFghij"), []byte("abCDEFghijkl"), uint8(4), uint8(0))              // a segment in the midst of two sends
	f.Add(makePacket(tcp, "abcdefgh"), []byte("abcdefgh"), uint8(4), uint8(4))                  // strace cut the second
	f.Add(makePacket(tcp, "abcdefgh"), []byte("abcd"), uint8(2), uint8(0))                      // more than was sent
	f.Add(makePacket(tcp, "efgh"), []byte("abcdefgh"), uint8(2), uint8(0))                      // in the second only
	f.Add(makePacket(tcp, "h"), []byte("abcdefgh"), uint8(7), uint8(0))                         // the second
	f.Add(makePacket(tcp, "cd"), []byte("abcdefgh"), uint8(4), uint8(0))                        // in the first only
	f.Fuzz(func(t *testing.T, packet, data []byte, split, cut uint8) {
		a, b := string(data[:min(len(data), int(split))]), string(data[min(len(data), int(split)):])
		for _, transport := range []string{udp, tcp, "udp - -", "tcp - -"} {
			one, two := send(1, 0, transport, a), send(2, 0, transport, b, cutTo(max(0, len(b)-int(cut))))
			h := hit(1, packet)
			for _, match := range orders {
				for _, m := range match(NewMatcher(), []*event.Hit{h}, []Send{one, two}) {
					p, ok := readPacket(h)
					if !ok || !m.Probable && !strings.Contains(string(data), string(p.payload)) {
						t.Errorf("%q proves %q", data, packet)
					}
				}
			}
		}
	})
}

// A flood of hits and of sends that have nothing to do with each other.
func BenchmarkMatcher(b *testing.B) {
	const udp = "udp " + local + " " + remote
	packet := makePacket(udp, query(1))
	m := NewMatcher()
	sends := slices.Repeat([]Send{send(1, 0, udp, query(2))}, 10)
	b.ReportAllocs()
	for i := range b.N {
		m.Hit(hit(i, packet))
		for _, s := range sends {
			s.Time = at(i)
			m.Send("a", s)
		}
	}
	b.ReportMetric(float64(b.N*len(sends))/b.Elapsed().Seconds(), "sends/s")
}
