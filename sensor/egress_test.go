package sensor

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"culprit/internal/pattern"
	"culprit/internal/proc"
	"culprit/internal/testkit"
)

// openEgress loads the program as if the namespace of the test were another one. It is attached to nothing.
func openEgress(t testing.TB, snaplen int, all ...Want) *OtherPackets {
	t.Helper()
	testkit.Root(t)
	s := &Sensor{config: Config{Freeze: true, AtOnce: 8}}
	t.Cleanup(func() { s.close() })
	if err := s.prepare(); err != nil {
		t.Fatal(err)
	}
	var err error
	if s.egress, err = newEgress(s, Others{Snaplen: snaplen}); err != nil {
		t.Fatalf("%+v", err)
	}
	s.egress.netns = 1 // nobody's
	if err := s.SetWants(all, nil); err != nil {
		t.Fatalf("%+v", err)
	}
	return s.OtherPackets()
}

// send runs the program for a packet, and returns what it reports.
func (f *OtherPackets) send(t testing.TB, packet []byte) (found OtherPacket, is bool) {
	t.Helper()
	ether := make([]byte, 14)
	ether[12], ether[13] = 0x08, 0x00
	if packet[0]>>4 == 6 {
		ether[12], ether[13] = 0x86, 0xdd
	}
	result, err := f.egress.wants.prog.Run(&ebpf.RunOptions{Data: append(ether, packet...)})
	if err != nil || result != 1 {
		t.Fatalf("the program says %d, %v: the packet would not go out", result, err)
	}
	if f.egress.reader.AvailableBytes() == 0 {
		return OtherPacket{}, false
	}
	if found, err = f.Next(t.Context()); err != nil {
		t.Fatal(err)
	}
	return found, true
}

const clientPort = 40000

// ipv4 makes a packet. What comes between the first 20 bytes of the IP header and the transport header is options.
func ipv4(to string, options int, transport []byte) []byte {
	b := make([]byte, 20+options)
	b[0] = 0x40 | byte(len(b)/4)
	b[9] = transport[0]
	copy(b[16:], netip.MustParseAddr(to).AsSlice())
	return append(b, transport[1:]...)
}

// ipv6 makes a packet with extension headers, the first byte of each being its own type.
func ipv6(to string, extensions [][]byte, transport []byte) []byte {
	b := make([]byte, 40)
	b[0] = 0x60
	copy(b[24:], netip.MustParseAddr(to).AsSlice())
	next := 6
	for _, e := range extensions {
		b[next] = e[0]
		next = len(b)
		b = append(b, e...)
	}
	b[next] = transport[0]
	return append(b, transport[1:]...)
}

// udp and tcp make transport headers after a byte with their protocol.
func udp(port int, payload string) []byte { return udpFrom(clientPort, port, payload) }

func udpFrom(from, port int, payload string) []byte {
	b := make([]byte, 9)
	b[0] = protoUDP
	binary.BigEndian.PutUint16(b[1:], uint16(from))
	binary.BigEndian.PutUint16(b[3:], uint16(port))
	return append(b, payload...)
}

func tcp(port, options int, payload string) []byte {
	b := make([]byte, 21+options)
	b[0] = protoTCP
	binary.BigEndian.PutUint16(b[1:], clientPort)
	binary.BigEndian.PutUint16(b[3:], uint16(port))
	b[13] = byte((20 + options) / 4 << 4)
	for i := range options {
		b[21+i] = "BADZONE"[i%7]
	}
	return append(b, payload...)
}

func must[T any](v T, err error) *T {
	if err != nil {
		panic(err)
	}
	return &v
}

var badzone = Want{Pattern: must(pattern.String("BADZONE")), Protocols: []string{"udp", "tcp"}, Families: []string{"ipv4", "ipv6"}, Ports: []int{53}}

// What comes before the payload, in all shapes.
func TestEgressHeaders(t *testing.T) {
	t.Parallel()
	short := Want{Pattern: must(pattern.String("abc")), Protocols: []string{"udp"}, Families: []string{"ipv4"}, Ports: []int{54}}
	f := openEgress(t, 2048, badzone, short)
	const v4, v6, has = "192.0.2.1", "2001:db8::1", "x badzone y"
	hop := append([]byte{0, 2}, make([]byte, 22)...)
	fragment := func(offset uint16) []byte { return []byte{44, 0, byte(offset >> 8), byte(offset), 0, 0, 0, 0} }
	late := ipv4(v4, 0, udp(53, has))
	late[7] = 1
	for _, tt := range []struct {
		name   string
		packet []byte
		want   bool
	}{
		{"UDP", ipv4(v4, 0, udp(53, has)), true},
		{"options", ipv4(v4, 40, udp(53, has)), true},
		{"TCP", ipv4(v4, 0, tcp(53, 0, has)), true},
		{"TCP with options", ipv4(v4, 12, tcp(53, 40, has)), true},
		{"in the options", ipv4(v4, 0, tcp(53, 8, "")), false},
		{"IPv6", ipv6(v6, nil, udp(53, has)), true},
		{"IPv6, TCP", ipv6(v6, nil, tcp(53, 20, has)), true},
		{"extension headers", ipv6(v6, [][]byte{hop, append([]byte{43, 0}, make([]byte, 6)...), append([]byte{60, 1}, make([]byte, 14)...)}, udp(53, has)), true},
		{"first fragment", ipv6(v6, [][]byte{fragment(1)}, udp(53, has)), true},
		{"more extension headers than anybody sends", ipv6(v6, slices.Repeat([][]byte{append([]byte{60, 0}, make([]byte, 6)...)}, 7), udp(53, has)), true},
		{"the same without the pattern", ipv6(v6, slices.Repeat([][]byte{append([]byte{60, 0}, make([]byte, 6)...)}, 7), udp(53, "zone")), false},
		{"later fragment", ipv6(v6, [][]byte{fragment(8)}, udp(53, has)), false},
		{"later IPv4 fragment", late, false},
		{"other port", ipv4(v4, 0, udp(55, has)), false},
		{"other port to a loopback address", ipv4("127.0.0.1", 0, udp(41234, has)), false},
		{"other port to ::1", ipv6("::1", nil, udp(41234, has)), false},
		{"other port of Docker's resolver", ipv4("127.0.0.11", 0, udp(41234, "\x00\x01\x01\x00"+has)), true},
		{"the same from a rule's port", ipv4("127.0.0.11", 0, udpFrom(53, 41234, "\x00\x01\x01\x00"+has)), true},
		{"an answer to Docker's resolver", ipv4("127.0.0.11", 0, udpFrom(53, 41234, "\x00\x01\x81\x00"+has)), false},
		{"too short for a message, to Docker's resolver", ipv4("127.0.0.11", 0, udp(54, "abc")), true},
		{"the same to its other port", ipv4("127.0.0.11", 0, udp(41234, "abc")), false},
		{"TCP to Docker's resolver", ipv4("127.0.0.11", 0, tcp(41234, 0, has)), false},
		{"ICMP", ipv4(v4, 0, append([]byte{1}, has...)), false},
		{"short", ipv4(v4, 0, udp(53, ""))[:24], false},
		{"nothing", ipv4(v4, 0, udp(53, "")), false},
	} {
		got, is := f.send(t, tt.packet)
		if is != tt.want {
			t.Errorf("%s: reported: %v", tt.name, is)
		}
		if is && !bytes.Equal(got.Data, tt.packet) {
			t.Errorf("%s: the packet is %x, want %x", tt.name, got.Data, tt.packet)
		}
	}
}

// Who runs is told without the helpers for that, which programs of this kind have only since Linux 6.16, as is the one that
// stops a process. Those that are left are in Linux 5.15.
func TestEgressHelpers(t *testing.T) {
	t.Parallel()
	f := openEgress(t, 2048, badzone)
	got, _ := f.send(t, ipv4("192.0.2.1", 0, udp(53, "BADZONE")))
	st, err := proc.Default.Stat(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if got.Process != st.ID || got.Comm != st.Comm || int(got.UID) != os.Getuid() {
		t.Errorf("it was sent by %+v, want %+v", got.Send, st)
	}
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(groups)) {
		if path, is := strings.CutPrefix(line, "0::/"); is {
			var dir unix.Stat_t
			if err := unix.Fstatat(f.egress.root, "./"+strings.TrimSpace(path), &dir, 0); err != nil || dir.Ino != got.Cgroup {
				t.Errorf("its cgroup is %d, want %d, %v", got.Cgroup, dir.Ino, err)
			}
		}
	}
	c, err := compile([]Want{badzone})
	if err != nil {
		t.Fatal(err)
	}
	f.egress.freezes = false
	old := []asm.BuiltinFunc{
		asm.FnMapLookupElem, asm.FnKtimeGetNs, asm.FnGetCurrentTaskBtf, asm.FnTaskPtRegs, asm.FnProbeReadKernel, asm.FnSkbLoadBytes,
		asm.FnRingbufReserve, asm.FnRingbufSubmit, asm.FnRingbufQuery, asm.FnMapUpdateElem, asm.FnSkbCgroupId, asm.FnSkbAncestorCgroupId,
	}
	for _, in := range f.egress.write(f.egress.wants, c, nil).Instructions {
		if in.IsBuiltinCall() && !slices.Contains(old, asm.BuiltinFunc(in.Constant)) {
			t.Errorf("it calls %v", asm.BuiltinFunc(in.Constant))
		}
	}
}

// The program finds what [pattern.Pattern.Matches] finds, of any of the wants that look at such packets.
func TestEgressSearch(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	word := func(most int, letters string) string {
		var b strings.Builder
		for range 1 + rng.IntN(most) {
			b.WriteByte(letters[rng.IntN(len(letters))])
		}
		return b.String()
	}
	found := 0
	for round := range 12 {
		const letters = "aAbB\x00\xff"
		var wants []Want
		for range 1 + rng.IntN(80) {
			w := Want{Protocols: []string{"udp"}, Families: []string{"ipv4"}, Ports: []int{53 + rng.IntN(2)}}
			if rng.IntN(2) == 0 {
				w.Pattern = must(pattern.String(word(9, letters)))
			} else {
				w.Pattern = must(pattern.Hex(fmt.Sprintf("|%x|", word(9, letters))))
			}
			wants = append(wants, w)
		}
		if round%6 == 0 { // bytes of every kind, as long as a pattern can be
			all := make([]byte, 128)
			for i := range all {
				all[i] = byte(2 * i)
			}
			wants = append(wants, Want{Pattern: must(pattern.Hex(fmt.Sprintf("|%x|", all))), Protocols: []string{"udp"}, Families: []string{"ipv4"}, Ports: []int{53}})
		}
		f := openEgress(t, 2048, wants...)
		for range 300 {
			port := 53 + rng.IntN(2)
			payload := word(12, letters)
			if rng.IntN(4) == 0 { // in more pieces than one, with a match perhaps between two
				payload = strings.Repeat("-", 100+rng.IntN(2000)) + payload
			}
			packet := ipv4("192.0.2.1", 0, udp(port, payload))
			seen := []byte(payload)[:min(len(payload), 2048-28)]
			want := slices.ContainsFunc(wants[:min(63, len(wants))], func(w Want) bool {
				return w.Ports[0] == port && w.Pattern.Matches(seen)
			})
			// The last bit is that of all the rest: they are told apart later.
			perhaps := want || slices.ContainsFunc(wants[min(63, len(wants)):], func(w Want) bool { return w.Pattern.Matches(seen) })
			_, is := f.send(t, packet)
			if is && !perhaps || !is && want {
				t.Fatalf("%q to port %d: found: %v, want %v; of %d wants", payload, port, is, want, len(wants))
			}
			if is {
				found++
			}
		}
		f.egress.sensor.close()
	}
	if found < 400 || found > 3200 {
		t.Errorf("%d of 3600 packets had a pattern: the test shows little", found)
	}
}

// A want without a pattern has every packet, and none of another port.
func TestEgressAny(t *testing.T) {
	t.Parallel()
	f := openEgress(t, 512, Want{Protocols: []string{"udp"}, Families: []string{"ipv6"}, Ports: []int{53}})
	for _, tt := range []struct {
		packet []byte
		want   bool
	}{
		{ipv6("2001:db8::1", nil, udp(53, "anything")), true},
		{ipv6("2001:db8::1", nil, udp(54, "anything")), false},
		{ipv6("2001:db8::1", nil, tcp(53, 0, "anything")), false},
		{ipv4("192.0.2.1", 0, udp(53, "anything")), false},
		{ipv6("2001:db8::1", nil, udp(53, strings.Repeat("long", 200))), true},
	} {
		got, is := f.send(t, tt.packet)
		if is != tt.want || is && !bytes.Equal(got.Data, tt.packet[:min(len(tt.packet), 512)]) {
			t.Errorf("%x: reported: %v, %x", tt.packet, is, got.Data)
		}
	}
}

// With no wants at all nothing is reported, and others replace them.
func TestEgressReplace(t *testing.T) {
	t.Parallel()
	f := openEgress(t, 2048)
	packet := ipv4("192.0.2.1", 0, udp(53, "BADZONE"))
	for _, all := range [][]Want{{badzone}, nil, {badzone}} {
		if err := f.egress.replace(all, nil); err != nil {
			t.Fatal(err)
		}
		if _, is := f.send(t, packet); is != (all != nil) {
			t.Errorf("with %d wants the packet is reported: %v", len(all), is)
		}
	}
}

func FuzzDecodeOther(f *testing.F) {
	f.Add(make([]byte, egrPacket+20))
	f.Add(make([]byte, egrPacket-1)) // cut
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, err := decodeOther(b, nil); err == nil && (len(got.Data) == 0 || len(got.Data) > len(b)-egrPacket) {
			t.Errorf("a packet of %d bytes in a record of %d", len(got.Data), len(b))
		}
	})
}
