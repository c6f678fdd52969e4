package rules

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Clean needs no configuration, and finds what either flavour left in any table.
func TestClean(t *testing.T) {
	t.Parallel()
	e := newEnv(t, "")
	saved := func() string {
		text := e.Must(t, "nft", "list", "ruleset")
		for _, tool := range []string{"iptables-nft-save", "ip6tables-nft-save", "iptables-legacy-save", "ip6tables-legacy-save"} {
			for line := range strings.Lines(counters.ReplaceAllString(e.Must(t, tool), "")) {
				if !strings.HasPrefix(line, "#") {
					text += line
				}
			}
		}
		return text
	}
	removed := 0
	clean := func() error {
		var err error
		removed, err = Clean("CULPRIT", e.log)
		return err
	}
	e.ok(t, clean)
	if got := saved(); got != "" || removed != 0 {
		t.Errorf("on an empty machine Clean removed %d and made:\n%s", removed, got)
	}

	for _, tool := range []string{"iptables-nft", "ip6tables-legacy"} {
		e.Must(t, tool, "-t", "raw", "-A", "OUTPUT", "-p", "udp", "-j", "ACCEPT")
		e.Must(t, tool, "-t", "mangle", "-A", "OUTPUT", "-p", "udp", "-j", "ACCEPT")
		e.Must(t, tool, "-t", "mangle", "-N", "THEIRS")
	}
	// Nothing can remove the tables of iptables-legacy, so create them before comparing.
	e.Must(t, "iptables-legacy", "-t", "mangle", "-S")
	before := saved()

	leave := func(tool, table string) {
		for _, args := range []string{"-N CULPRIT", "-A CULPRIT -p udp -j NFLOG --nflog-prefix a --nflog-group 1", "-I OUTPUT 1 -j CULPRIT", "-A OUTPUT -j CULPRIT"} {
			e.Must(t, tool, append([]string{"-t", table}, strings.Fields(args)...)...)
		}
	}
	leave("iptables-nft", "raw")
	leave("iptables-nft", "mangle")
	leave("ip6tables-legacy", "raw")
	leave("ip6tables-legacy", "mangle")
	leave("iptables-legacy", "mangle")
	f := e.open(t, parse(t, inTable("filter")), nil)
	e.ok(t, func() error { return f.at(f.tools[0], "filter").install(ofFamily(f.rules, "ipv4")) })
	e.ok(t, func() error { return f.at(f.tools[1], "filter").install(ofFamily(f.rules, "ipv6")) })

	e.ok(t, clean)
	if removed != 7 {
		t.Errorf("removed %d chains, want 7", removed)
	}
	if d := cmp.Diff(before, saved()); d != "" {
		t.Errorf("after Clean:\n%s", d)
	}
	e.ok(t, clean)
	if removed != 0 {
		t.Errorf("the second Clean removed %d", removed)
	}
}
