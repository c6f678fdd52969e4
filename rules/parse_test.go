package rules

import (
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseCounted(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, line string
		want       RuleStatus
	}{
		{
			"iptables -v -S", `-A C -p udp -m udp --dport 53 -m string --string "BADZONE" --algo bm --from 28 --icase -c 3 105 -j NFLOG --nflog-prefix badzone --nflog-group 5 --nflog-size 2048 --nflog-threshold 1`,
			RuleStatus{Name: "badzone", Match: `-p udp -m udp --dport 53 -m string --string "BADZONE" --algo bm --from 28 --icase`, Packets: 3, Bytes: 105},
		},
		{
			"brackets of older versions", `-A C -p udp -m string --string "x" --algo bm -j NFLOG --nflog-prefix "bad.zone" --nflog-group 5 -c 18446744073709551615 1`,
			RuleStatus{Name: "bad.zone", Match: `-p udp -m string --string "x" --algo bm`, Packets: 1<<64 - 1, Bytes: 1},
		},
		{
			"a pattern that looks like counters", `-A C -p udp -m string --string " -c 7 8 -j NFLOG --nflog-prefix y" --algo bm -c 1 2 -j NFLOG --nflog-prefix x`,
			RuleStatus{Name: "x", Match: `-p udp -m string --string " -c 7 8 -j NFLOG --nflog-prefix y" --algo bm`, Packets: 1, Bytes: 2},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := parseCounted(tt.line, "C")
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Error(d)
			}
		})
	}
	for _, line := range []string{"-A C -j NFLOG", "-A C -c 1 99999999999999999999 -j NFLOG --nflog-group 1", ""} {
		if r, err := parseCounted(line, "C"); err == nil {
			t.Errorf("%q became %+v, want an error", line, r)
		}
	}
}

func TestWhichRulesAreOurs(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]bool{
		`-A C -p udp -m string --string "x" --algo bm -j NFLOG --nflog-prefix x --nflog-group 5`: true,
		`-A C -p udp -j NFLOG`: true,
		`-A C -p udp -j NFLOG --nflog-prefix "a b" --nflog-group 5`: true,
		`-A C -p udp -j DROP`: false,
		`-A C -p udp`:         false,
		`-A C -m comment --comment " -j NFLOG --nflog-group 5" -j DROP`:             false,
		`-A C -m comment --comment " -j NFLOG --nflog-prefix " -j DROP`:             false,
		`-A C -j LOG --log-prefix "-j NFLOG"`:                                       false,
		`-A C -m string --string " -j NFLOG" --algo bm --to 65535 -j CULPRIT_OTHER`: false,
	} {
		if got := ourRule.MatchString(line); got != want {
			t.Errorf("%s: ours %t, want %t", line, got, want)
		}
	}
}

func TestReadHook(t *testing.T) {
	t.Parallel()
	const made = `-A OUTPUT -m comment --comment "culprit made this table" -j C`
	for _, tt := range []struct {
		name  string
		lines []string
		want  chainState
	}{
		{"empty", []string{"-P OUTPUT ACCEPT"}, chainState{onlyOurs: true}},
		{"ours", []string{"-P OUTPUT ACCEPT", made}, chainState{jumps: []string{madeTable}, first: true, onlyOurs: true}},
		{"policy", []string{"-P OUTPUT DROP", "-A OUTPUT -j C"}, chainState{jumps: []string{""}, first: true}},
		{"third", []string{"-P OUTPUT ACCEPT", "-A OUTPUT -j D", "-A OUTPUT -j CC", "-A OUTPUT -j C"}, chainState{jumps: []string{""}}},
		{"not ours", []string{"-P OUTPUT ACCEPT", "-A OUTPUT -o lo -j C", "-A OUTPUT -g C", `-A OUTPUT -m comment --comment "x" -j C`}, chainState{}},
		{"two", []string{"-P OUTPUT ACCEPT", "-A OUTPUT -j C", "-A OUTPUT -j D", made}, chainState{jumps: []string{"", madeTable}, first: true}},
	} {
		var got chainState
		got.readHook(tt.lines, "C")
		if d := cmp.Diff(tt.want, got, cmp.AllowUnexported(chainState{}, nftTable{})); d != "" {
			t.Errorf("%s: %s", tt.name, d)
		}
	}
}

// What iptables 1.8.9 prints, and the remedy we give.
func TestRemedies(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ family, says, want string }{
		{"ipv4", "iptables v1.8.9 (nf_tables): Could not fetch rule set generation id: Permission denied (you must be root)", "run culprit as root"},
		{"ipv4", "iptables v1.8.9 (nf_tables): Could not fetch rule set generation id: Invalid argument", "modprobe -a nf_tables nft_compat"},
		{"ipv4", "Fatal: can't open lock file /run/xtables.lock: Permission denied", "run culprit as root"},
		{"ipv4", "Another app is currently holding the xtables lock; still 4s 0us time ahead to have a chance to grab the lock...", "try again"},
		{"ipv4", "iptables v1.8.9 (legacy): can't initialize iptables table `raw': Table does not exist (do you need to insmod?)", `modprobe iptable_raw" (CONFIG_IP_NF_RAW)`},
		{"ipv6", "ip6tables v1.8.9 (legacy): can't initialize ip6tables table `raw': Table does not exist (do you need to insmod?)", `modprobe ip6table_raw" (CONFIG_IP6_NF_RAW)`},
		{"ipv6", "ip6tables v1.8.9 (legacy): can't initialize ip6tables table `raw': Address family not supported by protocol", "the kernel does not support ipv6"},
		{"ipv4", "iptables: No chain/target/match by that name.", "CONFIG_NETFILTER_XT_MATCH_STRING"},
		{"ipv4", "Warning: Extension NFLOG revision 0 not supported, missing kernel module?\niptables v1.8.9 (nf_tables):  RULE_APPEND failed (No such file or directory): rule in chain CULPRIT", "the kernel lacks xt_NFLOG (CONFIG_NETFILTER_XT_TARGET_NFLOG): run \"modprobe xt_NFLOG\""},
		{"ipv4", "iptables v1.8.9 (nf_tables): Couldn't load match `string':No such file or directory", "extension string of iptables is missing"},
		{"ipv4", "iptables: Too many links.", "delete those first"},
		{"ipv4", "iptables v1.8.9 (nf_tables): table `raw' is incompatible, use 'nft' tool.", "set firewall.table"},
	} {
		if got := remedy(tt.family, "raw", tt.says, errors.New(tt.says)); !strings.Contains(got, tt.want) {
			t.Errorf("%s\ngot the remedy %q, want %q in it", tt.says, got, tt.want)
		}
	}
	if got := explain("ipv4", "raw", syscall.EPERM).Error(); got != "operation not permitted: run culprit as root (it needs CAP_NET_ADMIN)" {
		t.Error(got)
	}
	if got := remedy("ipv4", "raw", "something new", errors.New("something new")); got != "" {
		t.Errorf("an unknown error has the remedy %q", got)
	}
}
