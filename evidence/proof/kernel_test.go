package proof

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"culprit/internal/event"
)

// seenIn makes a hit one that the kernel saw thread 812 of process 800 send at a time, in a system call.
func seenIn(h *event.Hit, ms int, call string) *event.Hit {
	h.Process = &event.Process{PID: 800}
	h.Culprit.Sent = &event.Sent{Timestamp: at(ms), TID: 812, Syscall: call}
	return h
}

func call(name string) func(*Send) { return func(s *Send) { s.Syscall = name } }

func took(d time.Duration) func(*Send) { return func(s *Send) { s.Took = d } }

// hides makes a send one that does not show its bytes.
func hides(name string) func(*Send) {
	return func(s *Send) { s.Syscall, s.Hidden, s.Messages = name, true, nil }
}

// returned makes a send one of a look-back: its time is when it returned.
func returned(s *Send) { s.Returned, s.Took = true, -1 }

func first(s *Send) { s.TID = 800 }

// What the kernel saw decides which of several lines sent a packet, and proves lines that do not show
// its bytes.
func TestKernel(t *testing.T) {
	const udp = "udp " + local + " " + remote
	const tcp = "tcp " + local + " " + remote
	const ring = "- - -"
	q := query(1)
	framed := "\x00" + string(rune(len(q))) + q
	ms := time.Millisecond
	packet := makePacket(udp, q)
	echo := internetPacket(1, netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.53"), 0, []byte("\x08\x00badzone"))
	type sends = []Send
	type lines = []int64
	for _, test := range []struct {
		name     string
		packet   []byte
		call     string // that the kernel saw, at 100 ms
		sends    []Send
		lines    []int64
		probable bool
		kernel   bool
	}{
		{"sendfile", packet, "sendfile", sends{send(1, 90, udp, "", hides("sendfile"), took(20*ms))}, lines{1}, false, true},
		{"sendfile of 32 bits", packet, "sendfile64", sends{send(1, 90, udp, "", hides("sendfile64"), took(20*ms))}, lines{1}, false, true},
		{"sendfile, never returned", packet, "sendfile", sends{send(1, -60_000, udp, "", hides("sendfile"), took(-1))}, lines{1}, false, true},
		{"sendfile, for a minute", packet, "sendfile", sends{send(1, -30_000, udp, "", hides("sendfile"), took(time.Minute))}, lines{1}, false, true},
		{"sendfile, another thread", packet, "sendfile", sends{send(1, 90, udp, "", hides("sendfile"), took(20*ms), other)}, nil, false, false},
		{"sendfile, another call", packet, "splice", sends{send(1, 90, udp, "", hides("sendfile"), took(20*ms))}, nil, false, false},
		{"sendfile, later", packet, "sendfile", sends{send(1, 103, udp, "", hides("sendfile"), took(20*ms))}, nil, false, false},
		{"sendfile, long before", packet, "sendfile", sends{send(1, -20, udp, "", hides("sendfile"), took(10*ms))}, nil, false, false},
		{"sendfile, another port", packet, "sendfile", sends{send(1, 90, "udp 192.0.2.1:4001 "+remote, "", hides("sendfile"), took(20*ms))}, nil, false, false},
		{"sendfile, TCP", packet, "sendfile", sends{send(1, 90, tcp, "", hides("sendfile"), took(20*ms))}, nil, false, false},
		{"sendfile, one of many", packet, "sendfile", sends{
			send(1, 98, udp, "", hides("sendfile"), took(1*ms)), send(2, 99, udp, "", hides("sendfile"), took(ms/2)),
			send(3, 100, udp, "", hides("sendfile"), took(ms/2)), send(4, 101, udp, "", hides("sendfile"), took(ms/2)),
		}, lines{3}, false, true},
		{"io_uring", packet, "io_uring_enter", sends{send(1, 99, ring, "", hides("io_uring_enter"), took(2*ms))}, lines{1}, false, true},
		{"a call of unknown name", packet, "", sends{send(1, 99, ring, "", hides("io_uring_enter"), took(2*ms))}, lines{1}, false, true},
		{"raw", echo, "sendto", sends{send(1, 99, ring, "", hides("sendto"), took(2*ms)), send(2, 99, udp, q)}, lines{1}, false, true},

		{"bytes", packet, "sendto", sends{send(1, 99, udp, q, took(2*ms))}, lines{1}, false, false},
		{"bytes of socketcall", packet, "socketcall", sends{send(1, 99, udp, q, call("send"), took(2*ms))}, lines{1}, false, false},
		{"bytes, stale address", packet, "sendto", sends{send(1, 99, "udp 192.0.2.1:4000 192.0.2.99:53", q, took(2*ms))}, lines{1}, false, false},
		{"other bytes", packet, "sendto", sends{send(1, 99, udp, query(2), took(2*ms))}, nil, false, false},
		{"bytes of another thread", packet, "sendto", sends{send(1, 99, udp, q, took(2*ms), other)}, nil, false, false},
		{"bytes of two threads", packet, "sendto", sends{send(1, 99, udp, q, took(2*ms)), send(2, 100, udp, q, took(2*ms), other)}, lines{1}, false, false},
		{"bytes, twice", packet, "sendto", sends{send(1, 97, udp, q, took(ms)), send(2, 99, udp, q, took(2*ms)), send(3, 102, udp, q, took(ms))}, lines{2}, false, false},
		{"bytes, only later", packet, "sendto", sends{send(1, 103, udp, q, took(ms))}, nil, false, false},
		{"bytes, only long before", packet, "sendto", sends{send(1, -300, udp, q, took(ms))}, lines{1}, true, false},
		{"the same bytes before, then a call that hides them", packet, "sendfile", sends{send(1, 50, udp, q, took(ms)), send(2, 99, udp, "", hides("sendfile"), took(2*ms))}, lines{2}, false, true},
		{"cut", packet, "sendto", sends{send(1, 99, udp, q, cutTo(8), took(2*ms))}, lines{1}, false, true},
		{"cut to nothing", packet, "sendto", sends{send(1, 99, udp, q, cutTo(0), took(2*ms))}, lines{1}, false, true},
		{"cut, other bytes", packet, "sendto", sends{send(1, 99, udp, query(2), cutTo(8), took(2*ms))}, nil, false, false},
		{"cut, other length", packet, "sendto", sends{send(1, 99, udp, q+"z", cutTo(8), took(2*ms))}, nil, false, false},
		{"cut, another thread", packet, "sendto", sends{send(1, 99, udp, q, cutTo(8), took(2*ms), other)}, nil, false, false},
		{"line too long", packet, "sendto", sends{send(1, 99, udp, q, func(s *Send) { s.Messages[0].Size = -1 }, took(2*ms))}, lines{1}, false, true},
		{"packet cut", packet[:50], "sendto", sends{send(1, 99, udp, q, took(2*ms))}, lines{1}, false, true},
		{"MSG_MORE", packet, "sendto", sends{send(1, 50, udp, q[:20], more), send(2, 99, udp, q[20:], took(2*ms))}, lines{1, 2}, false, false},
		{"MSG_MORE, cut", packet, "sendto", sends{send(1, 50, udp, q[:20], more, cutTo(1)), send(2, 99, udp, q[20:], cutTo(1), took(2*ms))}, lines{1, 2}, false, true},
		{"MSG_MORE, the other thread", packet, "sendto", sends{send(1, 50, udp, q[:20], more, other), send(2, 99, udp, q[20:], took(2*ms))}, lines{1, 2}, false, false},
		{"UDP_CORK", packet, "setsockopt", sends{cork(1, 49, udp, CorkOn), send(2, 50, udp, q[:20]), send(3, 60, udp, q[20:]), cork(4, 99, udp, CorkOff)}, lines{2, 3, 4}, false, false},
		{"UDP_CORK, cut", packet, "setsockopt", sends{cork(1, 49, udp, CorkOn), send(2, 50, udp, q, cutTo(2)), cork(3, 99, udp, CorkOff)}, lines{2, 3}, false, true},

		{"UDP_CORK, sent before the trace", packet, "setsockopt", sends{cork(1, 99, udp, CorkOff)}, lines{1}, false, true},
		{"UDP_CORK, other bytes", packet, "setsockopt", sends{cork(1, 49, udp, CorkOn), send(2, 50, udp, query(2)), cork(3, 99, udp, CorkOff)}, nil, false, false},

		{"TCP", makePacket(tcp, framed), "sendto", sends{send(1, 99, tcp, framed, took(2*ms))}, lines{1}, false, false},
		{"TCP, sent while it reads", makePacket(tcp, framed), "recvfrom", sends{send(1, -900, tcp, framed, took(ms))}, lines{1}, false, false},
		{"TCP, written by the first thread", makePacket(tcp, framed), "recvfrom", sends{send(1, -900, tcp, framed, took(ms), first)}, lines{1}, false, false},
		{"TCP, written by another thread", makePacket(tcp, framed), "recvfrom", sends{send(1, -900, tcp, framed, took(ms), other)}, lines{1}, true, false},
		{"TCP, written by two", makePacket(tcp, framed), "sendto", sends{send(1, 99, tcp, framed, took(2*ms)), send(2, 100, "tcp "+local+" -", framed, took(2*ms), other)}, lines{1}, false, false},
		{"TCP, a part of a write that is cut", makePacket(tcp, framed), "sendto", sends{send(1, 99, tcp, framed+framed+framed, cutTo(4), took(2*ms))}, lines{1}, false, true},
		{"TCP, what waited", makePacket(tcp, framed), "setsockopt", sends{send(1, 50, tcp, "", hides("sendfile"), took(ms)), send(2, 99, tcp, "", hides("setsockopt"), took(2*ms))}, lines{2}, false, true},
		{"TCP, other bytes", makePacket(tcp, framed), "sendto", sends{send(1, 99, tcp, q+"z", took(2*ms))}, nil, false, false},
		{"returned at once", packet, "sendto", sends{send(1, 100, udp, q, returned)}, lines{1}, false, false},
		{"returned late", packet, "sendto", sends{send(1, 400, udp, q, returned)}, lines{1}, false, false},
		{"returned before", packet, "sendto", sends{send(1, 90, udp, q, returned)}, lines{1}, true, false},
		{"returned, twice", packet, "sendto", sends{send(1, 98, udp, q, returned), send(2, 101, udp, q, returned), send(3, 110, udp, q, returned)}, lines{2}, false, false},
		{"returned, other bytes", packet, "sendto", sends{send(1, 100, udp, query(2), returned)}, nil, false, false},
		{"returned, another thread", packet, "sendto", sends{send(1, 100, udp, q, returned, other)}, nil, false, false},
		{"returned, a sendfile", packet, "sendfile", sends{send(1, 130, udp, "", hides("sendfile"), returned)}, lines{1}, false, true},
		{"returned, TCP", makePacket(tcp, framed), "sendto", sends{send(1, 150, tcp, framed, returned)}, lines{1}, false, false},
		{"returned, TCP, sent while it reads", makePacket(tcp, framed), "recvfrom", sends{send(1, -900, tcp, framed, returned)}, lines{1}, false, false},
		{"TCP, bytes before the kernel's word", makePacket(tcp, framed), "sendfile", sends{send(1, 90, tcp, framed, took(ms)), send(2, 99, tcp, "", hides("sendfile"), took(2*ms))}, lines{1}, false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			for order, match := range orders {
				h := seenIn(hit(102, test.packet), 100, test.call)
				matches := match(NewMatcher(), []*event.Hit{h}, test.sends)
				if len(matches) != 1 {
					if len(matches) > 0 || test.lines != nil {
						t.Errorf("%s: %d proofs", order, len(matches))
					}
					continue
				}
				m := matches[0]
				var got lines
				for _, part := range m.Parts {
					got = append(got, part.Line)
				}
				if got = append(got, m.Send.Line); !slices.Equal(got, test.lines) || m.Probable != test.probable || m.Kernel != test.kernel {
					t.Errorf("%s: lines %d, probable %t, kernel %t; want %d, %t, %t", order, got, m.Probable, m.Kernel, test.lines, test.probable, test.kernel)
				}
			}
		})
	}
}

// One call sends many packets, all of which the kernel saw: each is proven.
func TestKernelSawMany(t *testing.T) {
	const tcp = "tcp " + local + " " + remote
	m := NewMatcher()
	m.Send("a", send(1, 0, tcp, "", hides("sendfile"), took(time.Second)))
	for i := range 10 {
		m.Hit(seenIn(hit(10*i+1, makePacket(tcp, query(byte(i)))), 10*i, "sendfile"))
	}
	got := m.Close()
	if len(got) != 10 || slices.ContainsFunc(got, func(m Match) bool { return m.Probable || !m.Kernel }) {
		t.Errorf("%d are proven: %+v", len(got), got)
	}
}

// However many calls there are that hide what they send, few are kept, and not for long.
func TestHiddenBounds(t *testing.T) {
	m := NewMatcher()
	for i := range maxSends + 10 {
		m.Send("a", send(int64(i), 0, "- - -", "", hides("io_uring_enter")))
	}
	if len(m.calls) != maxSends || m.lost.Sends != 10 || len(m.sends) != 0 {
		t.Errorf("%d calls are kept, %d were dropped", len(m.calls), m.lost.Sends)
	}
	if m.Tick(at(20_000)); len(m.calls) != 0 {
		t.Errorf("%d calls are kept for ever", len(m.calls))
	}
}
