package sockdiag

import (
	"errors"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"culprit/internal/testkit"
)

// owner is the UID of the sockets in the tests.
const owner = 4242

// A world is a network namespace with some sockets.
type world struct {
	t testing.TB
	n *testkit.Net
}

// open opens a socket, binds it to an address and connects it to another, if they are given.
// The addresses determine its family, so that "[::ffff:127.0.0.1]:1" makes an IPv6 socket that
// uses IPv4.
func (w world) open(typ int, local, remote string, options ...func(fd int) error) *os.File {
	w.t.Helper()
	domain := unix.AF_INET
	if strings.HasPrefix(local+remote, "[") {
		domain = unix.AF_INET6
	}
	var fd int
	var err error
	w.n.Do(func() { fd, err = unix.Socket(domain, typ|unix.SOCK_CLOEXEC, 0) })
	if err != nil {
		w.t.Fatal(err)
	}
	f := w.file(fd)
	for _, o := range options {
		err = errors.Join(err, o(fd))
	}
	err = errors.Join(err, unix.Fchown(fd, owner, owner))
	if local != "" {
		err = errors.Join(err, unix.Bind(fd, sockaddr(local)))
	}
	if remote != "" {
		err = errors.Join(err, unix.Connect(fd, sockaddr(remote)))
	}
	if err != nil {
		w.t.Fatalf("open socket %s->%s: %v", local, remote, err)
	}
	return f
}

// file returns a file that the end of the test closes, if nothing did before.
func (w world) file(fd int) *os.File {
	f := os.NewFile(uintptr(fd), "socket")
	w.t.Cleanup(func() { f.Close() })
	return f
}

// listen returns a TCP socket that listens on an address.
func (w world) listen(local string) *os.File {
	w.t.Helper()
	f := w.open(unix.SOCK_STREAM, local, "", option(unix.SO_REUSEADDR))
	if err := unix.Listen(int(f.Fd()), 16); err != nil {
		w.t.Fatal(err)
	}
	return f
}

func option(name int) func(fd int) error {
	return func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, name, 1) }
}

func sockaddr(s string) unix.Sockaddr {
	a := netip.MustParseAddrPort(s)
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
	}
	return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
}

func inode(t testing.TB, f *os.File) uint32 {
	t.Helper()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return uint32(info.Sys().(*syscall.Stat_t).Ino)
}

// dial opens a Conn in a namespace.
func dial(t testing.TB, n *testkit.Net) (c *Conn) {
	t.Helper()
	var err error
	n.Do(func() { c, err = Open() })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestLookup(t *testing.T) {
	t.Parallel()
	// A case makes some sockets and returns the one to be found, if any.
	tests := []struct {
		name          string
		proto         Protocol
		local, remote string
		make          func(w world) *os.File
		unconnected   bool
	}{
		{name: "udp connected", proto: UDP, local: "127.0.0.1:1000", remote: "127.0.0.1:53", make: func(w world) *os.File {
			return w.open(unix.SOCK_DGRAM, "127.0.0.1:1000", "127.0.0.1:53")
		}},
		{name: "udp unconnected", proto: UDP, local: "127.0.0.1:1000", remote: "127.0.0.1:53", make: func(w world) *os.File {
			return w.open(unix.SOCK_DGRAM, "127.0.0.1:1000", "")
		}, unconnected: true},
		{name: "udp port only", proto: UDP, local: "127.0.0.1:1000", remote: "192.0.2.1:53", make: func(w world) *os.File {
			return w.open(unix.SOCK_DGRAM, "0.0.0.0:1000", "")
		}, unconnected: true},
		{name: "udp6 connected", proto: UDP, local: "[::1]:1000", remote: "[::1]:53", make: func(w world) *os.File {
			return w.open(unix.SOCK_DGRAM, "[::1]:1000", "[::1]:53")
		}},
		{name: "udp6 port only", proto: UDP, local: "[::1]:1000", remote: "[2001:db8::1]:53", make: func(w world) *os.File {
			return w.open(unix.SOCK_DGRAM, "[::]:1000", "")
		}, unconnected: true},
		{name: "udp dual-stack connected", proto: UDP, local: "127.0.0.1:1000", remote: "127.0.0.1:53", make: func(w world) *os.File {
			return w.open(unix.SOCK_DGRAM, "[::]:1000", "[::ffff:127.0.0.1]:53")
		}},
		{name: "udp dual-stack port only", proto: UDP, local: "127.0.0.1:1000", remote: "127.0.0.1:53", make: func(w world) *os.File {
			return w.open(unix.SOCK_DGRAM, "[::]:1000", "")
		}, unconnected: true},
		{name: "udp mapped addresses asked for", proto: UDP, local: "[::ffff:127.0.0.1]:1000", remote: "[::ffff:127.0.0.1]:53", make: func(w world) *os.File {
			return w.open(unix.SOCK_DGRAM, "127.0.0.1:1000", "127.0.0.1:53")
		}},
		{name: "udp ipv6 only does not talk ipv4", proto: UDP, local: "127.0.0.1:1000", remote: "127.0.0.1:53", make: func(w world) *os.File {
			w.open(unix.SOCK_DGRAM, "[::]:1000", "", func(fd int) error {
				return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
			})
			return nil
		}},
		{name: "udp peer on loopback", proto: UDP, local: "127.0.0.1:1000", remote: "127.0.0.1:53", make: func(w world) *os.File {
			w.open(unix.SOCK_DGRAM, "127.0.0.1:53", "127.0.0.1:1000")
			return w.open(unix.SOCK_DGRAM, "127.0.0.1:1000", "127.0.0.1:53")
		}},
		{name: "udp only the peer is left", proto: UDP, local: "127.0.0.1:1000", remote: "127.0.0.1:53", make: func(w world) *os.File {
			w.open(unix.SOCK_DGRAM, "127.0.0.1:53", "127.0.0.1:1000")
			w.open(unix.SOCK_DGRAM, "0.0.0.0:54", "")
			return nil
		}},
		{name: "udp same port at both ends", proto: UDP, local: "127.0.0.1:5353", remote: "127.0.0.2:5353", make: func(w world) *os.File {
			w.open(unix.SOCK_DGRAM, "127.0.0.2:5353", "127.0.0.1:5353")
			return w.open(unix.SOCK_DGRAM, "127.0.0.1:5353", "127.0.0.2:5353")
		}},
		{name: "udp one port, two peers", proto: UDP, local: "127.0.0.1:1000", remote: "127.0.0.3:53", make: func(w world) *os.File {
			w.open(unix.SOCK_DGRAM, "127.0.0.1:1000", "127.0.0.2:53", option(unix.SO_REUSEADDR))
			f := w.open(unix.SOCK_DGRAM, "127.0.0.1:1000", "127.0.0.3:53", option(unix.SO_REUSEADDR))
			w.open(unix.SOCK_DGRAM, "127.0.0.1:1000", "127.0.0.4:53", option(unix.SO_REUSEADDR))
			return f
		}},
		{name: "udp connected is better than unconnected", proto: UDP, local: "127.0.0.1:1000", remote: "127.0.0.1:53", make: func(w world) *os.File {
			w.open(unix.SOCK_DGRAM, "0.0.0.0:1000", "", option(unix.SO_REUSEADDR))
			f := w.open(unix.SOCK_DGRAM, "0.0.0.0:1000", "127.0.0.1:53", option(unix.SO_REUSEADDR))
			w.open(unix.SOCK_DGRAM, "127.0.0.1:1000", "", option(unix.SO_REUSEADDR))
			return f
		}},
		{name: "udp connected elsewhere", proto: UDP, local: "127.0.0.1:1000", remote: "127.0.0.1:53", make: func(w world) *os.File {
			w.open(unix.SOCK_DGRAM, "127.0.0.1:1000", "127.0.0.9:53")
			return nil
		}},
		{name: "udp closed", proto: UDP, local: "127.0.0.1:1000", remote: "127.0.0.1:53", make: func(w world) *os.File {
			w.open(unix.SOCK_DGRAM, "127.0.0.1:1000", "127.0.0.1:53").Close()
			return nil
		}},
		{name: "tcp is not udp", proto: UDP, local: "127.0.0.1:1000", remote: "127.0.0.1:53", make: func(w world) *os.File {
			w.listen("127.0.0.1:53")
			w.open(unix.SOCK_STREAM, "127.0.0.1:1000", "127.0.0.1:53")
			return nil
		}},
		{name: "tcp client", proto: TCP, local: "127.0.0.1:1000", remote: "127.0.0.1:53", make: func(w world) *os.File {
			w.listen("127.0.0.1:53")
			return w.open(unix.SOCK_STREAM, "127.0.0.1:1000", "127.0.0.1:53")
		}},
		{name: "tcp6 client", proto: TCP, local: "[::1]:1000", remote: "[::1]:53", make: func(w world) *os.File {
			w.listen("[::]:53")
			return w.open(unix.SOCK_STREAM, "[::1]:1000", "[::1]:53")
		}},
		{name: "tcp dual-stack client", proto: TCP, local: "127.0.0.1:1000", remote: "127.0.0.1:53", make: func(w world) *os.File {
			w.listen("0.0.0.0:53")
			return w.open(unix.SOCK_STREAM, "[::]:1000", "[::ffff:127.0.0.1]:53")
		}},
		{name: "tcp server", proto: TCP, local: "127.0.0.1:53", remote: "127.0.0.1:1000", make: func(w world) *os.File {
			l := w.listen("127.0.0.1:53")
			w.open(unix.SOCK_STREAM, "127.0.0.1:1000", "127.0.0.1:53")
			fd, _, err := unix.Accept4(int(l.Fd()), unix.SOCK_CLOEXEC)
			if err != nil {
				w.t.Fatal(err)
			}
			f := w.file(fd)
			if err := f.Chown(owner, owner); err != nil {
				w.t.Fatal(err)
			}
			return f
		}},
		{name: "tcp one port, two peers", proto: TCP, local: "127.0.0.1:1000", remote: "127.0.0.3:53", make: func(w world) *os.File {
			w.listen("0.0.0.0:53")
			w.open(unix.SOCK_STREAM, "127.0.0.1:1000", "127.0.0.2:53", option(unix.SO_REUSEADDR))
			return w.open(unix.SOCK_STREAM, "127.0.0.1:1000", "127.0.0.3:53", option(unix.SO_REUSEADDR))
		}},
		{name: "tcp not accepted", proto: TCP, local: "127.0.0.1:53", remote: "127.0.0.1:1000", make: func(w world) *os.File {
			w.listen("127.0.0.1:53")
			w.open(unix.SOCK_STREAM, "127.0.0.1:1000", "127.0.0.1:53")
			return nil
		}},
		{name: "tcp orphan", proto: TCP, local: "127.0.0.1:1000", remote: "127.0.0.1:53", make: func(w world) *os.File {
			w.listen("127.0.0.1:53")
			w.open(unix.SOCK_STREAM, "127.0.0.1:1000", "127.0.0.1:53").Close()
			return nil
		}},
		{name: "tcp listener is not the connection", proto: TCP, local: "127.0.0.1:53", remote: "127.0.0.1:1000", make: func(w world) *os.File {
			w.listen("127.0.0.1:53")
			return nil
		}},
		{name: "nothing", proto: TCP, local: "127.0.0.1:1000", remote: "127.0.0.1:53", make: func(w world) *os.File { return nil }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			n := testkit.NewNet(t)
			c := dial(t, n)
			want := tt.make(world{t, n})
			local, remote := netip.MustParseAddrPort(tt.local), netip.MustParseAddrPort(tt.remote)
			got, err := c.LookupOn(0, tt.proto, local, remote)
			if want == nil {
				if !errors.Is(err, ErrNotFound) {
					t.Fatalf("found %+v, %v", got, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got.Inode != inode(t, want) || got.UID != owner {
				t.Errorf("found %+v, want inode %d", got, inode(t, want))
			}
			if unconnected := got.Remote.Port() == 0; unconnected != tt.unconnected {
				t.Errorf("found %+v, want unconnected: %t", got, tt.unconnected)
			}
			if !tt.unconnected && (got.Local != plain(local) || got.Remote != plain(remote)) {
				t.Errorf("found %+v", got)
			}
		})
	}
}

// Nothing tells unconnected sockets that share a port apart: the kernel always chooses the same
// one, which need not be the sender.
func TestLookupReusePort(t *testing.T) {
	t.Parallel()
	w := world{t, testkit.NewNet(t)}
	c := dial(t, w.n)
	group := make(map[uint32]bool)
	for range 4 {
		f := w.open(unix.SOCK_DGRAM, "127.0.0.1:1000", "", option(unix.SO_REUSEPORT))
		group[inode(t, f)] = true
	}
	local := netip.MustParseAddrPort("127.0.0.1:1000")
	for port := range uint16(50) {
		remote := netip.AddrPortFrom(local.Addr(), 2000+port)
		first, err := c.LookupOn(0, UDP, local, remote)
		if err != nil {
			t.Fatal(err)
		}
		again, err := c.LookupOn(0, UDP, local, remote)
		if err != nil {
			t.Fatal(err)
		}
		if !group[first.Inode] || again != first || first.Remote.Port() != 0 {
			t.Fatalf("found %+v, then %+v, of %v", first, again, group)
		}
	}
}

func TestLookupOn(t *testing.T) {
	t.Parallel()
	w := world{t, testkit.NewNet(t)}
	c := dial(t, w.n)
	const lo = 1
	local, remote := netip.MustParseAddrPort("127.0.0.1:1000"), netip.MustParseAddrPort("127.0.0.1:53")
	bound := w.open(unix.SOCK_DGRAM, "127.0.0.1:1000", "", func(fd int) error { return unix.BindToDevice(fd, "lo") })
	if got, err := c.LookupOn(0, UDP, local, remote); !errors.Is(err, ErrNotFound) {
		t.Errorf("without interface: %+v, %v", got, err)
	}
	if got, err := c.LookupOn(lo, UDP, local, remote); err != nil || got.Inode != inode(t, bound) {
		t.Errorf("with interface: %+v, %v", got, err)
	}
	free := w.open(unix.SOCK_DGRAM, "127.0.0.1:1001", "")
	local = netip.MustParseAddrPort("127.0.0.1:1001")
	if got, err := c.LookupOn(lo, UDP, local, remote); err != nil || got.Inode != inode(t, free) {
		t.Errorf("socket that is not bound, with interface: %+v, %v", got, err)
	}
}

// Others are all sockets that may have sent the same packet, and no more.
func TestOthers(t *testing.T) {
	t.Parallel()
	w := world{t, testkit.NewNet(t)}
	c := dial(t, w.n)
	shared := option(unix.SO_REUSEADDR)
	local, remote := netip.MustParseAddrPort("127.0.0.1:1000"), netip.MustParseAddrPort("127.0.0.1:53")
	w.open(unix.SOCK_DGRAM, "127.0.0.1:1001", "")
	w.open(unix.SOCK_DGRAM, "127.0.0.2:1000", "", shared)
	w.listen("127.0.0.1:1000")
	w.open(unix.SOCK_DGRAM, "127.0.0.1:1000", "127.0.0.1:54", shared)
	w.open(unix.SOCK_DGRAM, "127.0.0.1:1000", "", shared)
	s, err := c.LookupOn(0, UDP, local, remote)
	if err != nil {
		t.Fatal(err)
	}
	others := func() (inodes []uint32) {
		t.Helper()
		all, err := c.Others(s, UDP, local, remote)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range all {
			inodes = append(inodes, o.Inode)
		}
		slices.Sort(inodes)
		return inodes
	}
	if got := others(); len(got) != 0 {
		t.Errorf("alone on its port, there are %v", got)
	}
	var want []uint32
	for _, of := range [][2]string{{"127.0.0.1:1000", ""}, {"0.0.0.0:1000", ""}, {"[::]:1000", ""}, {"127.0.0.1:1000", "127.0.0.1:53"}} {
		want = append(want, inode(t, w.open(unix.SOCK_DGRAM, of[0], of[1], shared)))
	}
	slices.Sort(want)
	if got := others(); !slices.Equal(got, want) {
		t.Errorf("there are %v, want %v", got, want)
	}
	if got, err := c.Others(s, TCP, local, remote); err != nil || len(got) != 0 {
		t.Errorf("of TCP there are %v, %v", got, err)
	}
}

func TestLookupInvalid(t *testing.T) {
	t.Parallel()
	c := dial(t, testkit.NewNet(t))
	v4, v6 := netip.MustParseAddrPort("127.0.0.1:1"), netip.MustParseAddrPort("[::1]:1")
	for _, r := range []request{{proto: TCP}, {TCP, v4, v6, 0}, {UDP, v6, v4, 0}, {Protocol(1), v4, v4, 0}} {
		if got, err := c.LookupOn(0, r.proto, r.local, r.remote); err == nil || errors.Is(err, ErrNotFound) {
			t.Errorf("%v: %+v, %v", r, got, err)
		}
	}
}

// A late reply must not be taken for that of a later request.
func TestLookupLateReply(t *testing.T) {
	t.Parallel()
	w := world{t, testkit.NewNet(t)}
	c := dial(t, w.n)
	w.open(unix.SOCK_DGRAM, "127.0.0.1:1000", "")
	want := w.open(unix.SOCK_DGRAM, "127.0.0.1:1002", "")
	remote := netip.MustParseAddrPort("127.0.0.1:53")
	for _, local := range []string{"127.0.0.1:1000", "127.0.0.1:1001"} { // found, not found
		late := request{UDP, netip.MustParseAddrPort(local), remote, 0}
		if _, err := c.nl.Send(netlink.Message{
			Header: netlink.Header{Type: sockDiagByFamily, Flags: netlink.Request},
			Data:   late.encode(),
		}); err != nil {
			t.Fatal(err)
		}
	}
	got, err := c.LookupOn(0, UDP, netip.MustParseAddrPort("127.0.0.1:1002"), remote)
	if err != nil || got.Inode != inode(t, want) {
		t.Errorf("found %+v, %v", got, err)
	}
}

func TestProbe(t *testing.T) {
	t.Parallel()
	n := testkit.NewNet(t)
	var err error
	n.Do(func() { err = Probe() })
	if err != nil {
		t.Error(err)
	}
	// sock_diag does not know sockets of ICMP, so this is like a missing module.
	err = dial(t, n).probe(Protocol(unix.IPPROTO_ICMP), "the module icmp_diag")
	if !errors.Is(err, unix.ENOENT) || !strings.Contains(err.Error(), "icmp_diag") {
		t.Errorf("probe of a protocol without module: %v", err)
	}
}

func BenchmarkLookup(b *testing.B) {
	w := world{b, testkit.NewNet(b)}
	c := dial(b, w.n)
	w.open(unix.SOCK_DGRAM, "127.0.0.1:1000", "127.0.0.1:53")
	w.listen("127.0.0.1:53")
	w.open(unix.SOCK_STREAM, "127.0.0.1:1000", "127.0.0.1:53")
	for _, bb := range []struct {
		name  string
		proto Protocol
		local string
		found bool
	}{
		{"udp", UDP, "127.0.0.1:1000", true},
		{"tcp", TCP, "127.0.0.1:1000", true},
		{"missing", UDP, "127.0.0.1:1001", false},
	} {
		b.Run(bb.name, func(b *testing.B) {
			local, remote := netip.MustParseAddrPort(bb.local), netip.MustParseAddrPort("127.0.0.1:53")
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.LookupOn(0, bb.proto, local, remote); (err == nil) != bb.found {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkOthers is what a walk through all UDP sockets costs, beside a look-up.
func BenchmarkOthers(b *testing.B) {
	w := world{b, testkit.NewNet(b)}
	c := dial(b, w.n)
	local, remote := netip.MustParseAddrPort("127.0.0.1:1000"), netip.MustParseAddrPort("127.0.0.1:53")
	w.open(unix.SOCK_DGRAM, "127.0.0.1:1000", "127.0.0.1:53")
	for port := range 500 {
		w.open(unix.SOCK_DGRAM, netip.AddrPortFrom(local.Addr(), uint16(2000+port)).String(), "")
	}
	s, err := c.LookupOn(0, UDP, local, remote)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Others(s, UDP, local, remote); err != nil {
			b.Fatal(err)
		}
	}
}
