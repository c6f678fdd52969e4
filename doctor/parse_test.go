package doctor

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

func TestCapabilities(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ status, lacking string }{
		{"Name:\tculprit\nCapPrm:\t0000000000000000\nCapEff:\t000001ffffffffff\n", ""},
		{"CapEff:\t0000000000000000\n", "CAP_NET_ADMIN CAP_NET_RAW CAP_SYS_PTRACE CAP_DAC_READ_SEARCH CAP_SYS_ADMIN"},
		{"CapEff:\t00000000a80425fb\n", "CAP_NET_ADMIN CAP_SYS_PTRACE CAP_SYS_ADMIN"}, // docker's default
	} {
		caps, err := parseCapEff(tt.status)
		if err != nil {
			t.Fatal(err)
		}
		names, why := lackingCaps(caps)
		if got := strings.Join(names, " "); got != tt.lacking || len(why) != len(names) {
			t.Errorf("%q lacks %s", tt.status, got)
		}
	}
	for _, bad := range []string{"", "CapEff:\tzz\n"} {
		if _, err := parseCapEff(bad); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

func TestFullUIDMap(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"         0          0 4294967295\n": true,
		"":                                   true,
		"         0     100000      65536\n": false,
		"         0       1000          1\n 1 100000     65536": false,
	} {
		if got := fullUIDMap(text); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func TestPtraceScope(t *testing.T) {
	t.Parallel()
	for level, want := range map[string]Status{"0\n": OK, "1\n": OK, "2\n": OK, "3\n": Fail, "9\n": Warn} {
		file := filepath.Join(t.TempDir(), "ptrace_scope")
		if err := os.WriteFile(file, []byte(level), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := scope(file); got.Status != want {
			t.Errorf("%q: %+v", level, got)
		}
	}
	if got := scope(filepath.Join(t.TempDir(), "none")); got.Status != OK {
		t.Errorf("%+v", got)
	}
}

func TestNFTTable(t *testing.T) {
	t.Parallel()
	attrs, err := netlink.MarshalAttributes([]netlink.Attribute{
		{Type: unix.NFTA_RULE_TABLE, Data: []byte("filter\x00")},
		{Type: unix.NFTA_RULE_CHAIN, Data: []byte("input\x00")},
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := nftTable(append([]byte{unix.NFPROTO_INET, 0, 0, 0}, attrs...))
	if got != "inet filter" || err != nil {
		t.Error(got, err)
	}
	for _, bad := range []string{"", "\x01\x00\x00", "\x01\x00\x00\x00", "\x01\x00\x00\x00\xff\xff\x01\x00"} {
		if got, err := nftTable([]byte(bad)); err == nil {
			t.Errorf("%q: %s", bad, got)
		}
	}
}

func TestFirstLine(t *testing.T) {
	t.Parallel()
	out := "# Warning: iptables-legacy tables present, use iptables-legacy to see them\nWarning: Extension string revision 0 not supported, missing kernel module?\niptables v1.8.9 (nf_tables):  RULE_INSERT failed (No such file or directory)"
	if got := firstLine(out); !strings.HasPrefix(got, "iptables v1.8.9") {
		t.Error(got)
	}
}
