package rules

import (
	"testing"
)

// chainFor is the configuration of another culprit.
func chainFor(chain string) string {
	return twoRules + "firewall: {chain: " + chain + "}\nnflog: {group: 77}\n"
}

// Two culprits: the second becomes first, the other accepts that, and what both created goes
// with the last one, whichever that is.
func TestTwoCulprits(t *testing.T) {
	eachBackend(t, func(t *testing.T, e *env) {
		for _, beside := range []string{"nothing", "others"} {
			if beside == "others" {
				e.foreign(t)
			}
			e.touch(t)
			before := e.saved(t)
			one, two := e.open(t, parse(t, twoRules), nil), e.open(t, parse(t, chainFor("OTHER")), nil)
			for name, last := range map[string]*Firewall{"the first": one, "the second": two} {
				e.installs(t, one)
				e.installs(t, two)
				both := e.saved(t)
				for _, f := range []*Firewall{one, two, one} {
					e.installs(t, f)
					e.same(t, both, "after Install of one that is there already")
				}
				e.Must(t, "ip6tables", "-t", "raw", "-I", "OUTPUT", "2", "-j", "ACCEPT")
				if !e.status(t, two).Healthy() || e.status(t, one).Healthy() {
					t.Error("with a rule of theirs between the jumps only the upper one is right")
				}
				e.installs(t, one)
				e.installs(t, two)
				e.Must(t, "ip6tables", "-t", "raw", "-D", "OUTPUT", "-j", "ACCEPT")
				for _, f := range []*Firewall{one, two} {
					if f != last {
						e.ok(t, f.Remove)
					}
				}
				e.installs(t, last)
				e.ok(t, last.Remove)
				e.same(t, before, "beside "+beside+" after Remove, last of "+name)
			}
		}
	})
}

// Of what several culprits say about a table, the note that says most wins, in any order.
func TestFurther(t *testing.T) {
	t.Parallel()
	for _, c := range [][3]string{
		{"", "", ""},
		{"", madeChain, madeChain},
		{madeChain, madeChain, madeChain},
		{"", madeTable, madeTable},
		{madeChain, madeTable, madeTable},
		{madeTable, madeTable, madeTable},
	} {
		if a, b := strongerNote(c[0], c[1]), strongerNote(c[1], c[0]); a != c[2] || b != c[2] {
			t.Errorf("of %q and %q: %q and %q, want %q", c[0], c[1], a, b, c[2])
		}
	}
}

// Only jumps to chains that do nothing but log may come before ours.
func TestFirst(t *testing.T) {
	eachBackend(t, func(t *testing.T, e *env) {
		for rule, first := range map[string]bool{
			"-j LOGS": true, `-m comment --comment "` + madeTable + `" -j LOGS`: true, "-j EMPTY": true,
			"-j ACCEPTS": false, "-j ACCEPT": false, "-j RETURN": false, "-j NFLOG": false,
			"-p udp -j LOGS": false, "-g LOGS": false, "-m comment --comment other -j LOGS": false,
		} {
			e := newEnv(t, e.backend)
			f := e.open(t, parse(t, twoRules), nil)
			e.installs(t, f)
			e.restore(t, "raw", ":LOGS - [0:0]\n:EMPTY - [0:0]\n:ACCEPTS - [0:0]\n-A LOGS -p udp -j NFLOG --nflog-group 3\n"+
				"-A ACCEPTS -p udp -j NFLOG --nflog-group 3\n-A ACCEPTS -j ACCEPT\n-I OUTPUT 1 "+rule)
			if s := e.status(t, f); s.Healthy() != first {
				t.Errorf("behind %s: healthy %t, want %t", rule, s.Healthy(), first)
			}
		}
	})
}
