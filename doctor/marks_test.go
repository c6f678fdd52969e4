package doctor

import (
	"fmt"
	"strings"
	"testing"

	"culprit/internal/testkit"
)

func TestIPTablesMarks(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]uint32{
		"-A OUTPUT -p udp -j ACCEPT":                                               0,
		"-A CULPRIT -p udp -j MARK --set-xmark 0x40000000/0x40000000":              0, // ours
		"-A KUBE -j MARK --set-xmark 0x4000/0x4000":                                0x4000,
		"-A KUBE -j MARK --set-xmark 0x0/0x4000":                                   0x4000,
		"-A POST -m mark ! --mark 0x4000/0x4000 -j RETURN":                         0x4000,
		"-A VPN -m mark --mark 0x1 -j ACCEPT":                                      0xffffffff,
		"-A VPN -j MARK --set-xmark 0xa/0xffffffff":                                0xffffffff,
		"-A VPN -j CONNMARK --restore-mark --nfmask 0xff --ctmask 0xff":            0xff,
		"-A VPN -j CONNMARK --set-xmark 0x1/0xffffffff":                            0,
		"-A VPN -m connmark --mark 0x1/0x1 -j ACCEPT":                              0,
		"-A VPN -m mark --mark 0x2/0x2 -m connmark --mark 0x1/0x2 -j ACCEPT":       0x2,
		"-A TP -p tcp -j TPROXY --on-port 1 --on-ip 0.0.0.0 --tproxy-mark 0x1/0x1": 0x1,
		":OUTPUT ACCEPT [0:0]":                                                     0,
	} {
		var got uint32
		for _, u := range iptablesMarks("iptables-save", "CULPRIT", line) {
			got |= u.bits
		}
		if got != want {
			t.Errorf("%s: %#x, want %#x", line, got, want)
		}
	}
}

func TestNFTMarks(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]uint32{
		"tcp dport 22 accept":                       0,
		"meta mark set 0x1":                         0xffffffff,
		"meta mark 0x00000001 accept":               0xffffffff,
		"meta mark & 0xff == 0x1 drop":              0xff,
		"meta mark and 0xff 0x1 drop":               0xff,
		"meta mark set meta mark | 0x40000000":      0x40000000,
		"meta mark set meta mark & 0xffffff00":      0xff,
		"ct mark 0x1 accept":                        0,
		`log prefix "a mark in words"`:              0,
		"meta mark set ct mark":                     0xffffffff,
		"ct mark set meta mark & 0xff":              0xff,
		"ip daddr 10.0.0.1 meta mark != 0x2 accept": 0xffffffff,
	} {
		var got uint32
		for _, u := range nftMarks("table inet mine {\n\tchain out {\n\t\t" + line + "\n\t}\n}\n") {
			got |= u.bits
		}
		if got != want {
			t.Errorf("%s: %#x, want %#x", line, got, want)
		}
		if got := nftMarks("table ip mangle {\n\tchain out {\n\t\t" + line + "\n\t}\n}\n"); got != nil {
			t.Errorf("of iptables-nft: %v", got)
		}
	}
}

func TestJudgeMarks(t *testing.T) {
	t.Parallel()
	one, all := markUse{"one", 1 << 30}, markUse{"all", 0xffffffff}
	low := markUse{"low", 0xff}
	for _, tt := range []struct {
		needed bool
		uses   []markUse
		status Status
		says   string
	}{
		{true, nil, OK, "nobody else, nor is any other"},
		{true, []markUse{low}, OK, "others use other bits: low"},
		{true, []markUse{low, one}, Warn, "also used by one -> set firewall.mark_bit to one that nobody uses, such as 31"},
		{false, []markUse{one}, OK, "does not matter"},
		{true, []markUse{all}, Warn, "also used by all -> give these rules a mask"},
	} {
		got := judgeMarks(30, tt.needed, tt.uses)
		if got.Status != tt.status || !strings.Contains(got.Found+" -> "+got.Remedy, tt.says) {
			t.Errorf("%v: %+v", tt.uses, got)
		}
	}
}

// Others' marks are found where they are set and looked at.
func TestMarksHere(t *testing.T) {
	t.Parallel()
	for _, backend := range testkit.Backends {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			n := testkit.NewNet(t)
			n.UseBackend(t, backend)
			n.Must(t, "iptables", "-t", "mangle", "-A", "OUTPUT", "-p", "icmp", "-j", "MARK", "--set-xmark", "0x40000000/0x40000000")
			n.Must(t, "ip6tables", "-t", "mangle", "-A", "OUTPUT", "-p", "udp", "-m", "mark", "--mark", "0x2/0x2", "-j", "ACCEPT")
			n.Must(t, "nft", "add table inet mine; add chain inet mine out; add rule inet mine out meta mark and 0x4 == 0x4 accept")
			n.Must(t, "ip", "-4", "rule", "add", "fwmark", "0x8/0x8", "table", "main", "priority", "99")
			n.Must(t, "ip", "-6", "rule", "add", "fwmark", "0x10", "table", "main", "priority", "98")
			var uses []markUse
			var err error
			n.Do(func() { uses, err = markUses(t.Context(), "CULPRIT") })
			if err != nil {
				t.Fatal(err)
			}
			text := fmt.Sprint(uses)
			for _, want := range []string{
				"iptables-save: -A OUTPUT -p icmp -j MARK --set-xmark 0x40000000/0x40000000 1073741824",
				"ip6tables-save: -A OUTPUT -p udp -m mark --mark 0x2/0x2 -j ACCEPT 2",
				"nft table inet mine: ", "ip -4 rule 99: fwmark 0x8/0x8 8", "ip -6 rule 98: fwmark 0x10/0xffffffff 4294967295",
			} {
				if !strings.Contains(text, want) {
					t.Errorf("no %q in %s", want, text)
				}
			}
			if got := runIn(t, n, 0)["packet marks"]; got.Status != OK || !strings.Contains(got.Found, "also used by") || !strings.Contains(got.Found, "does not matter") {
				t.Errorf("%+v", got)
			}
		})
	}
}
