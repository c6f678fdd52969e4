package trigger

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"golang.org/x/sys/unix"

	"culprit/internal/dns"
	"culprit/internal/event"
	"culprit/internal/proc"
	"culprit/internal/testkit"
	"culprit/sensor"
)

// others remembers which namespaces were chosen.
type others struct{ chosen map[uint32]bool }

func (o others) Next(context.Context) (sensor.OtherPacket, error) { return sensor.OtherPacket{}, nil }
func (o others) Flush() error                                     { return errNoOthers }
func (o others) Lost() []sensor.Lost                              { return nil }
func (o others) Choose(netns uint32, may bool) error {
	o.chosen[netns] = may
	return nil
}
func (o others) CountAsOne(uint64) error { return nil }

// foreign is a packet of another namespace, in the queue.
func foreign(netns uint32, data []byte, to string) nflogPacket {
	uid := uint32(4242)
	f := &sensor.OtherPacket{Netns: netns, SocketUID: uid, Data: data}
	f.Hold = 7
	if to != "" {
		f.To = netip.MustParseAddrPort(to)
	}
	return nflogPacket{uid: &uid, data: data, other: f}
}

// behindOptions puts destination options between the headers of IPv6 and transport (RFC 8200, section 4.6).
func behindOptions(packet []byte, n int) []byte {
	const header, options = 40, 60
	all := bytes.Clone(packet[:header])
	binary.BigEndian.PutUint16(all[4:], uint16(len(packet)-header+8*n))
	next := 6
	for range n {
		all[next] = options
		next = len(all)
		all = append(all, 0, 0, 1, 4, 0, 0, 0, 0) // PadN
	}
	all[next] = packet[6]
	return append(all, packet[header:]...)
}

// The kernel tells no rules of other namespaces apart: which of them a packet is a hit of is decided here.
func TestOther(t *testing.T) {
	t.Parallel()
	const rules = `rules:
  - {name: text, string: badzone, ports: [53, 5353], protocols: [udp]}
  - {name: zone, domain: badzone.test, to: [192.0.2.0/24, 127.0.0.0/8], families: [ipv4]}
`
	asks, mentions := query(1, "\x07badzone\x04test", 1), []byte("a badzone")
	answer := bytes.Clone(asks)
	answer[2] |= dns.IsAnswer
	packet := func(to string, transport gopacket.SerializableLayer, payload []byte) []byte {
		from := "198.51.100.7"
		if strings.Contains(to, ":") {
			from = "2001:db8::7"
		}
		return ip(t, from, to, transport, payload)
	}
	for _, tt := range []struct {
		name string
		in   []byte
		to   string // where the socket is connected to
		want string
	}{
		{"both rules", packet("192.0.2.1", udp(4000, 53), asks), "192.0.2.1:53", "text zone"},
		{"not connected", packet("192.0.2.1", udp(4000, 53), asks), "", "text zone"},
		{"text only", packet("192.0.2.1", udp(4000, 53), mentions), "", "text"},
		{"other port", packet("192.0.2.1", udp(4000, 5353), asks), "", "text"},
		{"other protocol", packet("192.0.2.1", tcp(4000, 53), append([]byte{0, byte(len(asks))}, asks...)), "192.0.2.1:53", "zone"},
		{"other network", packet("203.0.113.1", udp(4000, 53), asks), "", "text"},
		{"other family", packet("2001:db8::1", udp(4000, 53), asks), "", "text"},
		{"behind seven extension headers", behindOptions(packet("2001:db8::1", udp(4000, 53), asks), 7), "", "text"},
		{"the same to no rule's port", behindOptions(packet("2001:db8::1", udp(4000, 54), asks), 7), "", ""},
		{"no rule's port", packet("192.0.2.1", udp(4000, 54), asks), "192.0.2.1:54", ""},
		{"no pattern", packet("192.0.2.1", udp(4000, 53), query(1, "\x05other\x04test", 1)), "", ""},
		{"DNAT of a connected socket", packet("203.0.113.1", udp(4000, 40000), asks), "192.0.2.1:53", "text zone"},
		{"Docker's resolver by its own port", packet("127.0.0.11", udp(53, 40000), asks), "127.0.0.1:9", "text zone"},
		{"an answer to Docker's resolver", packet("127.0.0.11", udp(53, 40000), answer), "", ""},
		{"another loopback address", packet("127.0.0.1", udp(4000, 40000), asks), "", ""},
		{"no packet", []byte{0}, "", ""},
	} {
		p := mustProcessor(t, rules)
		seen := others{map[uint32]bool{}}
		p.others, p.namespaces = seen, newNamespaces([]string{"all"})
		out := newCollector()
		p.other(foreign(99, tt.in, tt.to), out)
		var names []string
		holds := uint64(0)
		for _, h := range out.hits {
			names = append(names, h.Rule.Name)
			holds += h.Hold
			if h.Culprit.Netns == nil || h.Culprit.Netns.Inode != 99 || h.User.ID != "4242" || h.Process != nil ||
				h.Culprit.Origin.Grade != event.GradeNone || h.Culprit.Origin.Reason.Code != event.UnattributedContext {
				t.Errorf("%s: %+v, %+v", tt.name, h, h.Culprit)
			}
		}
		if got := strings.Join(names, " "); got != tt.want {
			t.Errorf("%s: hits of %q, want %q", tt.name, got, tt.want)
		}
		// Whoever was stopped is let go once, or is the hit's.
		if got := holds + 7*uint64(len(out.let)); got != 7 {
			t.Errorf("%s: the hits hold %d, and %v are let go", tt.name, holds, out.let)
		}
	}
}

// The same addresses in two namespaces are not the same sender.
func TestOthersAreNoRepeats(t *testing.T) {
	t.Parallel()
	p := mustProcessor(t, "rules: [{name: text, string: badzone}]")
	p.others, p.namespaces = others{map[uint32]bool{}}, newNamespaces([]string{"all"})
	data, out := ip(t, "10.0.0.1", "10.0.0.2", udp(4000, 53), query(1, "\x07badzone\x04test", 1)), newCollector()
	for _, netns := range []uint32{1, 2, 1} {
		p.other(foreign(netns, data, ""), out)
	}
	p.packet(nflogPacket{rule: "text", data: data}, 0, out)
	if len(out.hits) != 3 {
		t.Errorf("%d hits, want 3: of two other namespaces and of ours", len(out.hits))
	}
}

// With a list of namespaces others are left alone, and the kernel is told.
func TestChosenNamespaces(t *testing.T) {
	t.Parallel()
	ours := netnsAt("/proc/self/ns/net")
	for _, tt := range []struct {
		named []string
		netns uint32
		want  bool
	}{
		{[]string{"all"}, 99, true},
		{[]string{strconv.Itoa(os.Getpid())}, ours, true},
		{[]string{strconv.Itoa(os.Getpid())}, 99, false},
		{[]string{"4194304", "web-*"}, 99, false},
		{[]string{"bl?e"}, 77, true},
		{[]string{"red"}, 77, false},
	} {
		p := mustProcessor(t, "rules: [{name: text, string: badzone}]")
		seen, out := others{map[uint32]bool{}}, newCollector()
		p.others, p.namespaces = seen, newNamespaces(tt.named)
		netns := event.Namespace{Inode: tt.netns}
		if tt.netns == 77 {
			netns.Name = "blue"
		}
		if got := p.namespaces.wants(netns, &event.Place{}); got != tt.want {
			t.Errorf("%v: namespace %s is wanted: %v", tt.named, netns, got)
		}
		if tt.netns == 77 {
			continue // it has no name for p
		}
		p.other(foreign(tt.netns, ip(t, "10.0.0.1", "10.0.0.2", udp(4000, 53), query(1, "\x07badzone\x04test", 1)), ""), out)
		if (len(out.hits) == 1) != tt.want || (len(out.let) == 1) == tt.want || seen.chosen[tt.netns] != tt.want {
			t.Errorf("%v: %d hits, %v are let go, chosen: %v", tt.named, len(out.hits), out.let, seen.chosen)
		}
	}
}

// A container is known by its name only if its runtime knows it.
func TestNamespacesOfContainers(t *testing.T) {
	t.Parallel()
	n := newNamespaces([]string{"web-*"})
	in := func(c event.Container) *event.Place { return &event.Place{Container: &c} }
	for _, tt := range []struct {
		place *event.Place
		want  bool
	}{
		{nil, false},
		{in(event.Container{Name: "web-1"}), true},
		{nil, true}, // who sent it is not known, and it was wanted
		{in(event.Container{Name: "db"}), false},
		{in(event.Container{Name: "web-1", Claimed: true}), false},
		{&event.Place{}, false},
		{nil, false},
	} {
		if got := n.wants(event.Namespace{Inode: 99}, tt.place); got != tt.want {
			t.Errorf("%+v is wanted: %v", tt.place, got)
		}
	}
}

// The names are read again when they may have changed, and only then: a flood must not make that the daemon's only work.
func TestNamespaceNames(t *testing.T) {
	t.Parallel()
	n := testkit.NewNet(t)
	names := newNamespaces([]string{"all"})
	names.dir = t.TempDir()
	file := filepath.Join(names.dir, "blue")
	var mine uint32
	n.Do(func() { mine = netnsAt("/proc/thread-self/ns/net") })
	is := func(want string) {
		t.Helper()
		n.Do(func() {
			if got := names.name(mine); got != want {
				t.Errorf("the namespace is %q, want %q", got, want)
			}
		})
	}
	is("")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for i := range 2 * maxUnfinished {
		if err := os.WriteFile(filepath.Join(names.dir, fmt.Sprint("left-", i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	is("") // the name is there, and stands for nothing yet
	for range 3 {
		if names.changed() {
			t.Fatal("the names would be read again, as some stand for nothing")
		}
	}
	var err error
	if n.Do(func() { err = unix.Mount("/proc/thread-self/ns/net", file, "", unix.MS_BIND, "") }); err != nil {
		t.Fatal(err)
	}
	for range 3 { // it may not be the name's turn yet
		n.Do(func() { names.name(mine) })
	}
	is("blue")
	n.Do(func() {
		if names.changed() {
			t.Error("the names would be read again, though nothing has changed")
		}
	})
	if n.Do(func() { err = unix.Unmount(file, 0) }); err != nil {
		t.Fatal(err)
	}
	is("")
}

// Who has power over the namespace of a packet is known also after its sender has ended. A sender that only has a socket there is
// nobody's.
func TestOwnerOfNamespace(t *testing.T) {
	t.Parallel()
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/ns/net", &st); err != nil {
		t.Fatal(err)
	}
	ended := exec.Command("true")
	if err := ended.Run(); err != nil {
		t.Fatal(err)
	}
	ours := uint32(st.Ino)
	s := newServed(proc.Default, new(proc.Users), nil)
	for _, tt := range []struct {
		pid   int
		netns uint32
		want  bool
	}{{os.Getpid(), ours, true}, {os.Getpid(), ours + 1, false}, {ended.Process.Pid, ours + 1, true}} {
		f := &sensor.OtherPacket{Netns: tt.netns, NetnsOwner: 4242}
		f.Process.PID = tt.pid
		if got := s.owner(f); (got != nil) != tt.want || got != nil && got.ID != "4242" {
			t.Errorf("a packet of %d in %d: %v", tt.pid, tt.netns, got)
		}
	}
}
