package nfilter

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"culprit/internal/testkit"
	"culprit/lists/format"
	"culprit/lists/set"
	"culprit/lists/set/settest"
)

// mustLoad loads a filter, and says which message it decided last.
func mustLoad(t testing.TB, rules map[string]*set.Set) (f *Filter, decided func() bool) {
	t.Helper()
	testkit.Root(t)
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	if f, err = Load(rules, m); err != nil {
		t.Fatalf("%+v", err)
	}
	t.Cleanup(f.Close)
	return f, func() bool {
		var at uint64
		if err := m.Lookup(uint32(0), &at); err != nil {
			t.Fatal(err)
		}
		return at != 0
	}
}

// message makes the NFLOG message of a packet.
func message(rule string, packet []byte) []byte {
	b := make([]byte, 16+4)
	binary.NativeEndian.PutUint16(b[4:], packetMessage)
	attribute := func(kind uint16, data ...byte) {
		b = binary.NativeEndian.AppendUint16(b, uint16(4+len(data)))
		b = append(binary.NativeEndian.AppendUint16(b, kind), data...)
		b = append(b, make([]byte, -len(b)&3)...)
	}
	attribute(1, 8, 0, 3, 0)
	attribute(nfulaPrefix, append([]byte(rule), 0)...)
	attribute(5, 0, 0, 0, 1)  // device
	attribute(11, 0, 0, 0, 0) // UID
	attribute(12, 0, 0, 0, 7) // sequence number
	attribute(nfulaPayload, packet...)
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	return b
}

// run gives a message to a filter, and returns whether it passes.
func run(t testing.TB, f *Filter, message []byte) bool {
	t.Helper()
	const header = 14 // the kernel takes it off
	got, err := f.Program().Run(&ebpf.RunOptions{Data: append(make([]byte, header), message...)})
	if err != nil {
		t.Fatal(err)
	}
	return got != 0
}

func wire(name string) (b []byte) {
	for label := range strings.SplitSeq(name, ".") {
		b = append(append(b, byte(len(label))), label...)
	}
	return append(b, 0)
}

// query asks for a name; after it comes what is given.
func query(name string, more ...byte) []byte {
	b := append([]byte{0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}, wire(name)...)
	return append(append(b, 0, 1, 0, 1), more...)
}

// edns adds an OPT record with options of some length.
func edns(q []byte, options ...byte) []byte {
	q[11] = 1
	q = append(q, 0, 0, 41, 4, 208, 0, 0, 0, 0, 0, byte(len(options)))
	return append(q, options...)
}

func udp4(payload []byte) []byte {
	b := []byte{0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2, 0x80, 0, 0, 53, 0, 0, 0, 0}
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)+len(payload)))
	binary.BigEndian.PutUint16(b[24:], uint16(8+len(payload)))
	return append(b, payload...)
}

func udp6(payload []byte) []byte {
	b := make([]byte, 48)
	b[0], b[6], b[7] = 0x60, 17, 64
	binary.BigEndian.PutUint16(b[4:], uint16(8+len(payload)))
	binary.BigEndian.PutUint16(b[44:], uint16(8+len(payload)))
	return append(b, payload...)
}

func tcp4(payload []byte) []byte {
	const options = 12
	b := make([]byte, 20+20+options)
	b[0], b[8], b[9], b[20+12] = 0x45, 64, 6, (20+options)/4<<4
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)+len(payload)))
	return append(b, payload...)
}

func segment(m []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(m))), m...)
}

const (
	drop      = "drop"
	pass      = "pass"
	undecided = "undecided"
	untouched = "untouched"
)

func outcome(t *testing.T, f *Filter, decided func() bool, m []byte) string {
	t.Helper()
	before := f.Counts()["list"]
	passed := run(t, f, m)
	now := f.Counts()["list"]
	switch (Counts{now.Passed - before.Passed, now.Dropped - before.Dropped, now.Undecided - before.Undecided}) {
	case Counts{Passed: 1}:
		if passed && decided() {
			return pass
		}
	case Counts{Dropped: 1}:
		if !passed && !decided() {
			return drop
		}
	case Counts{Undecided: 1}:
		if passed && !decided() {
			return undecided
		}
	case Counts{}:
		if passed && !decided() {
			return untouched
		}
	}
	return fmt.Sprintf("passed %v, decided %v, counts %v after %v", passed, decided(), now, before)
}

func TestFilter(t *testing.T) {
	s := settest.New(t,
		format.Entry{Name: "evil.example", Kind: format.Whole}, format.Entry{Name: "self.test", Kind: format.Self},
		format.Entry{Name: "below.test", Kind: format.Below}, format.Entry{Name: "zip", Kind: format.Whole},
		format.Entry{Name: strings.Repeat("a.", 126) + "z", Kind: format.Whole},
		format.Entry{Name: "good.evil.example", Kind: format.Whole, Except: true}, format.Entry{Name: "me.evil.example", Kind: format.Self, Except: true},
	)
	f, decided := mustLoad(t, map[string]*set.Set{"list": s, "other": settest.New(t)})
	elsewhere := mustFunction(t, f)
	long := strings.Repeat("a.", 126)
	opcode := query("evil.example")
	opcode[2] |= 4 << 3
	answer := query("evil.example")
	answer[2] |= 0x80
	two := query("good.example", append(wire("evil.example"), 0, 1, 0, 1)...)
	two[5] = 2
	fragment := udp4(query("good.example"))
	fragment[6] = 0x20
	extension := udp6(query("good.example"))
	extension[6] = 60
	version := edns(query("good.example"))
	version[len(version)-5] = 1
	cookie := []byte{0, 10, 0, 24, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24}
	hidden := append([]byte{0, 65, 0, 99, 1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}, append(wire("evil.example"), 0, 1, 0, 1)...)
	zero := query("good.e\x00ample")
	class := query("evil.example")
	class[len(class)-1] = 3
	cut := udp4(query("evil.example"))
	for _, tt := range []struct {
		what   string
		packet []byte
		want   string
	}{
		{"listed", udp4(query("evil.example")), pass},
		{"below a listed name", udp4(query("a.b.evil.example")), pass},
		{"mixed case", udp4(query("WwW.eViL.eXAMPLE")), pass},
		{"not listed", udp4(query("www.good.example")), drop},
		{"above a listed name", udp4(query("example")), drop},
		{"only ends alike", udp4(query("devil.example")), drop},
		{"a label for two", udp4([]byte(strings.Replace(string(query("evil.example")), "\x04evil\x07", "\x0cevil.", 1))), drop},
		{"the name alone", udp4(query("self.test")), pass},
		{"below the name alone", udp4(query("x.self.test")), drop},
		{"not itself", udp4(query("below.test")), drop},
		{"only below", udp4(query("x.below.test")), pass},
		{"a top-level domain", udp4(query("any.zip")), pass},
		{"excepted", udp4(query("good.evil.example")), undecided},
		{"below an exception", udp4(query("a.good.evil.example")), undecided},
		{"excepted alone", udp4(query("me.evil.example")), undecided},
		{"below that", udp4(query("x.me.evil.example")), pass},
		{"127 labels", udp4(query(long + "z")), pass},
		{"127 others", udp4(query(long + "y")), drop},
		{"128 labels", udp4(query("a." + long + "z")), undecided},
		{"63 bytes", udp4(query(strings.Repeat("x", 63) + ".evil.example")), pass},
		{"the root", udp4(append(query("a")[:12], 0, 0, 2, 0, 1)), drop},
		{"EDNS, listed", udp4(edns(query("evil.example"))), pass},
		{"EDNS", udp4(edns(query("good.example"))), drop},
		{"a cookie", udp4(edns(query("good.example"), cookie[:12]...)), drop},
		{"a long cookie", udp4(edns(query("good.example"), cookie...)), drop},
		{"a query in an option", udp4(edns(query("good.example"), hidden...)), undecided},
		{"another version of EDNS", udp4(version), undecided},
		{"IPv6, listed", udp6(query("evil.example")), pass},
		{"IPv6", udp6(query("good.example")), drop},
		{"IPv6 with an extension header", extension, undecided},
		{"TCP, listed", tcp4(segment(query("evil.example"))), pass},
		{"TCP", tcp4(segment(edns(query("good.example")))), drop},
		{"TCP without payload", tcp4(nil), drop},
		{"TCP, the length alone", tcp4([]byte{0, 30}), drop},
		{"TCP, two messages", tcp4(append(segment(query("good.example")), segment(query("evil.example"))...)), undecided},
		{"TCP, without the length", tcp4(query("good.example")), undecided},
		{"TCP, from within a message", tcp4(segment(query("good.example"))[4:]), undecided},
		{"an answer", udp4(answer), undecided},
		{"another opcode", udp4(opcode), undecided},
		{"two questions", udp4(two), undecided},
		{"a pointer", udp4(append(query("a")[:12], 3, 'w', 'w', 'w', 0xc0, 12, 0, 1, 0, 1)), undecided},
		{"a zero in a label", udp4(zero), undecided},
		{"another class", udp4(class), undecided},
		{"another datagram behind", udp4(append(query("good.example"), query("evil.example")...)), undecided},
		{"a fragment", fragment, undecided},
		{"cut off", cut[:len(cut)-4], undecided},
		{"no DNS", udp4([]byte("evil.example, evil.example")), undecided},
		{"nothing", udp4(nil), drop},
		{"long", udp4(make([]byte, 1000)), undecided},
		{"no IP", make([]byte, 60), undecided},
		{"too short", []byte{0x45}, undecided},
	} {
		t.Run(tt.what, func(t *testing.T) {
			if got := outcome(t, f, decided, message("list", tt.packet)); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
			if got := elsewhere(tt.packet); got != tt.want {
				t.Errorf("elsewhere %s, want %s", got, tt.want)
			}
		})
	}
	t.Run("another rule", func(t *testing.T) {
		for _, name := range []string{"badzone", "lis", "list2", strings.Repeat("l", 100)} {
			if got := outcome(t, f, decided, message(name, udp4(query("good.example")))); got != untouched {
				t.Errorf("%s: %s", name, got)
			}
		}
	})
	t.Run("an empty list", func(t *testing.T) {
		if run(t, f, message("other", udp4(query("evil.example")))) {
			t.Error("it passed")
		}
	})
	t.Run("what is no packet", func(t *testing.T) {
		m := message("list", udp4(query("good.example")))
		m[5] = 0
		if got := outcome(t, f, decided, m); got != untouched && got != pass { // what was decided last stays
			t.Error(got)
		}
		if got := outcome(t, f, decided, []byte{1, 2, 3, 4}); got != untouched {
			t.Error(got)
		}
	})
}

// The largest program takes the place of itself with the memory that sockets have for filters before Linux 6.8, and the
// probe says what is wrong with less.
func TestProbe(t *testing.T) {
	n := testkit.NewNet(t)
	probe := func(memory string) (err error) {
		if out, err := n.Run("sysctl", "-qw", "net.core.optmem_max="+memory); err != nil {
			t.Skip("the kernel has one net.core.optmem_max for all:", out)
		}
		n.Do(func() { err = Probe() })
		return err
	}
	if err := probe("20480"); err != nil {
		t.Error(err)
	}
	if err := probe("2048"); err == nil || !strings.Contains(err.Error(), "optmem_max") {
		t.Errorf("with less: %v", err)
	}
}
