package proof

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/gopacket/pcapgo"

	"culprit/internal/event"
	"culprit/internal/strace"
)

// The samples are what real programs did to look up x.badzone.test, and what dumpcap
// saw on lo meanwhile; testdata/record.sh makes them. Lines that have nothing to do
// with it are left out.

func readSample(t testing.TB, name string) (trace []byte, hits []*event.Hit) {
	t.Helper()
	trace, err := os.ReadFile(filepath.Join("testdata", name+".strace"))
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(filepath.Join("testdata", name+".pcap"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := pcapgo.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for {
		data, info, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) {
			return trace, hits
		}
		if err != nil {
			t.Fatal(err)
		}
		h := &event.Hit{
			Timestamp: info.Timestamp,
			Rule:      event.Rule{Name: "badzone"},
			DNS:       &event.DNS{Question: event.Question{Name: "x.badzone.test"}},
			Packet:    data[14:], // without the Ethernet header
		}
		p, ok := readPacket(h)
		if ok && p.dst.Port() == 53 && bytes.Contains(p.payload, []byte("\abadzone\x04test")) {
			hits = append(hits, h)
		}
	}
}

// scan gives a trace to a Scanner in pieces, and checks what is true for all sends.
func scan(t testing.TB, trace []byte, piece func() int) []Send {
	t.Helper()
	var sends []Send
	s := NewScanner(func(send Send) { sends = append(sends, send) })
	for rest := trace; len(rest) > 0; {
		n := min(piece(), len(rest))
		if got, err := s.Write(rest[:n]); got != n || err != nil {
			t.Fatalf("Write returned %d, %v; want %d", got, err, n)
		}
		rest = rest[n:]
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, send := range sends {
		tid, _, _ := strace.ParseLine(trace[send.Offset:])
		if tid != send.TID || send.Offset > 0 && trace[send.Offset-1] != '\n' ||
			int64(bytes.Count(trace[:send.Offset], []byte("\n"))) != send.Line-1 {
			t.Fatalf("line %d of TID %d is not at %d", send.Line, send.TID, send.Offset)
		}
		if len(send.Messages) == 0 && send.Cork == CorkNone && !send.Hidden {
			t.Fatalf("line %d has no messages", send.Line)
		}
	}
	return sends
}

func whole() int { return 1 << 30 }

var samples = []struct {
	name  string
	calls []string // that each hit is proven by, in order
}{
	{"busybox", []string{"write", "write"}},
	{"c", []string{"sendto"}},
	{"c-tcp", []string{"sendto"}},
	{"c-tcp6", []string{"sendto"}},
	{"curl", []string{"sendmmsg", "sendmmsg"}},
	{"cut", []string{"sendmmsg?", "sendmmsg?"}},
	{"dig", []string{"sendmmsg"}},
	{"dig-tcp", []string{"writev"}},
	{"dig6", []string{"sendmmsg"}},
	{"getent", []string{"sendto"}},
	{"go", []string{"write", "write", "write"}},
	{"go-tcp", []string{"write"}},
	{"hex", []string{"sendmmsg", "sendmmsg"}},
	{"node", []string{"sendto"}},
	{"php", []string{"sendto"}},
	{"python", []string{"sendmmsg", "sendmmsg"}},
	{"python-tcp", []string{"writev"}},
	{"query", slices.Concat([]string{
		"sendto", "sendto", "sendto", "sendto", "sendmsg", "write", "writev",
		"sendmsg", "writev", "sendto",
	}, slices.Repeat([]string{"sendto"}, 17))},
}

// orders are in which hits and sends may come.
var orders = map[string]func(m *Matcher, hits []*event.Hit, sends []Send) []Match{
	"hits first": func(m *Matcher, hits []*event.Hit, sends []Send) (all []Match) {
		for _, h := range hits {
			all = append(all, m.Hit(h)...)
		}
		for _, s := range sends {
			all = append(all, m.Send("trace", s)...)
		}
		return append(all, m.Close()...)
	},
	"sends first": func(m *Matcher, hits []*event.Hit, sends []Send) (all []Match) {
		for _, s := range sends {
			all = append(all, m.Send("trace", s)...)
		}
		for _, h := range hits {
			all = append(all, m.Hit(h)...)
		}
		return append(all, m.Close()...)
	},
	"mixed": func(m *Matcher, hits []*event.Hit, sends []Send) (all []Match) {
		for len(hits)+len(sends) > 0 {
			if len(sends) == 0 || len(hits) > 0 && rand.N(2) == 0 {
				all, hits = append(all, m.Hit(hits[0])...), hits[1:]
			} else {
				all, sends = append(all, m.Send("trace", sends[0])...), sends[1:]
			}
		}
		return append(all, m.Close()...)
	},
}

func TestSamples(t *testing.T) {
	for _, test := range samples {
		t.Run(test.name, func(t *testing.T) {
			trace, hits := readSample(t, test.name)
			sends := scan(t, trace, whole)
			if diff := cmp.Diff(sends, scan(t, trace, func() int { return 1 + rand.N(200) }), compareAddr); diff != "" {
				t.Fatalf("in pieces other sends are found than in one:\n%s", diff)
			}
			for order, match := range orders {
				m := NewMatcher()
				matches := match(m, hits, sends)
				slices.SortFunc(matches, func(a, b Match) int { return slices.Index(hits, a.Hit) - slices.Index(hits, b.Hit) })
				var calls []string
				for _, match := range matches {
					call := match.Send.Syscall
					if match.Probable {
						call += "?"
					}
					calls = append(calls, call)
					checkMatch(t, trace, match)
				}
				if diff := cmp.Diff(test.calls, calls); diff != "" {
					t.Errorf("%s: calls (-want +got):\n%s", order, diff)
				}
				if m.Lost() != (MatcherLost{}) {
					t.Errorf("%s: lost %+v", order, m.Lost())
				}
			}
		})
	}
}

// compareAddr lets cmp compare addresses.
var compareAddr = cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })

// checkMatch looks for the DNS id of the packet in the proven send.
func checkMatch(t *testing.T, trace []byte, m Match) {
	t.Helper()
	line, _, _ := bytes.Cut(trace[m.Send.Offset:], []byte("\n"))
	p, _ := readPacket(m.Hit)
	name := bytes.Index(p.payload, []byte("\x01x\abadzone"))
	id := p.payload[name-12 : name-10]
	var data []byte
	for _, message := range m.Send.Messages {
		data = append(data, message.Data...)
	}
	if !bytes.Contains(data, id) {
		t.Errorf("line %d does not send id %d: %s", m.Send.Line, binary.BigEndian.Uint16(id), line[:min(len(line), 300)])
	}
}
