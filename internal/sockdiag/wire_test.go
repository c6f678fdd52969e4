package sockdiag

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// reply returns a struct inet_diag_msg, given the hex digits that its fields have on a
// little-endian machine.
func reply(t testing.TB, family, ports, src, dst, uid, inode string) []byte {
	t.Helper()
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skip("the golden bytes are those of a little-endian machine")
	}
	pad := func(s string, n int) string { return s + strings.Repeat("0", n-len(s)) }
	b, err := hex.DecodeString(pad(family, 8) + ports + pad(src, 32) + pad(dst, 32) +
		"00000000" + "0100000000000000" + strings.Repeat("0", 24) + uid + inode)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDecode(t *testing.T) {
	t.Parallel()
	v4 := reply(t, "0201", "a6080035", "7f000001", "7f000035", "92100000", "d2040000")
	tests := []struct {
		name string
		in   []byte
		want Socket
		err  bool
	}{
		{"ipv4", v4, socket(1234, 4242, "127.0.0.1:42504", "127.0.0.53:53"), false},
		{"attributes after it", append(v4[:72:72], 5, 0, 8, 0, 0), socket(1234, 4242, "127.0.0.1:42504", "127.0.0.53:53"), false},
		{"unconnected", reply(t, "0207", "a6080000", "", "", "92100000", "d2040000"), socket(1234, 4242, "0.0.0.0:42504", "0.0.0.0:0"), false},
		{
			"ipv6", reply(t, "0a01", "a6080035", "fe80000000000000000000000000000a", "00000000000000000000000000000001", "ffffffff", "ffffffff"),
			socket(1<<32-1, 1<<32-1, "[fe80::a]:42504", "[::1]:53"), false,
		},
		{
			"ipv4 in ipv6", reply(t, "0a01", "a6080035", "00000000000000000000ffff7f000001", "00000000000000000000ffff7f000035", "00000000", "01000000"),
			socket(1, 0, "127.0.0.1:42504", "127.0.0.53:53"), false,
		},
		{"orphan", reply(t, "0206", "a6080035", "7f000001", "7f000035", "00000000", "00000000"), socket(0, 0, "127.0.0.1:42504", "127.0.0.53:53"), false},
		{"empty", nil, Socket{}, true},
		{"short", v4[:71], Socket{}, true},
		{"other family", append([]byte{1}, v4[1:]...), Socket{}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := decode(tt.in)
			if (err != nil) != tt.err {
				t.Fatalf("error %v, want one: %t", err, tt.err)
			}
			if diff := cmp.Diff(tt.want, got, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func socket(inode, uid uint32, local, remote string) Socket {
	return Socket{inode, uid, netip.MustParseAddrPort(local), netip.MustParseAddrPort(remote)}
}

func TestEncode(t *testing.T) {
	t.Parallel()
	reply(t, "0201", "a6080035", "", "", "00000000", "00000000") // skips on big-endian machines
	local, remote := netip.MustParseAddrPort("127.0.0.1:42504"), netip.MustParseAddrPort("127.0.0.53:53")
	tests := []struct {
		in   request
		want string
	}{
		{request{TCP, local, remote, 0}, "0206000000000000" + "a6080035" +
			"7f000001000000000000000000000000" + "7f000035000000000000000000000000" + "00000000" + "ffffffffffffffff"},
		{request{UDP, local, remote, 2}, "0211000000000000" + "0035a608" +
			"7f000035000000000000000000000000" + "7f000001000000000000000000000000" + "02000000" + "ffffffffffffffff"},
		{request{TCP, netip.MustParseAddrPort("[::1]:1"), netip.MustParseAddrPort("[2001:db8::2]:2"), 0}, "0a06000000000000" + "00010002" +
			"00000000000000000000000000000001" + "20010db8000000000000000000000002" + "00000000" + "ffffffffffffffff"},
	}
	for _, tt := range tests {
		if got := hex.EncodeToString(tt.in.encode()); got != tt.want {
			t.Errorf("%v:\n got %s\nwant %s", tt.in, got, tt.want)
		}
	}
}

func TestMatches(t *testing.T) {
	t.Parallel()
	tests := []struct {
		proto         Protocol
		local, remote string // of the socket; the request is 10.0.0.1:1000 -> 10.0.0.2:53
		want          bool
	}{
		{UDP, "10.0.0.1:1000", "10.0.0.2:53", true},
		{UDP, "10.0.0.1:1000", "0.0.0.0:0", true},
		{UDP, "0.0.0.0:1000", "0.0.0.0:0", true},
		{UDP, "[::]:1000", "[::]:0", true},
		{UDP, "10.0.0.2:53", "10.0.0.1:1000", false},
		{UDP, "10.0.0.1:1001", "10.0.0.2:53", false},
		{UDP, "10.0.0.3:1000", "10.0.0.2:53", false},
		{UDP, "10.0.0.1:1000", "10.0.0.2:54", false},
		{UDP, "10.0.0.1:1000", "10.0.0.3:53", false},
		{UDP, "10.0.0.1:1000", "10.0.0.2:0", false},
		{TCP, "10.0.0.1:1000", "10.0.0.2:53", true},
		{TCP, "10.0.0.1:1000", "0.0.0.0:0", false},
		{TCP, "[::]:1000", "[::]:0", false},
		{TCP, "10.0.0.2:53", "10.0.0.1:1000", false},
	}
	for _, tt := range tests {
		r := request{tt.proto, netip.MustParseAddrPort("10.0.0.1:1000"), netip.MustParseAddrPort("10.0.0.2:53"), 0}
		if got := r.matches(socket(1, 0, tt.local, tt.remote)); got != tt.want {
			t.Errorf("%s %s->%s: %t, want %t", tt.proto, tt.local, tt.remote, got, tt.want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(reply(f, "0201", "a6080035", "7f000001", "7f000035", "92100000", "d2040000"))
	f.Add(reply(f, "0a01", "a6080035", "00000000000000000000ffff7f000001", "", "92100000", "d2040000"))
	f.Add(reply(f, "0101", "a6080035", "", "", "92100000", "d2040000"))                                      // another family
	f.Add(reply(f, "0a01", "a6080035", "fe800000000000000000000000000001", "", "92100000", "d2040000")[:71]) // cut short
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := decode(b)
		if err != nil {
			return
		}
		if !s.Local.IsValid() || !s.Remote.IsValid() || s.Local.Addr().Is4In6() || s.Local.Addr().Zone() != "" {
			t.Errorf("decoded %+v", s)
		}
	})
}
