package rules

import (
	"strings"
	"testing"
)

// Install and Remove, twice each, on an empty machine and beside the rules of others, in every
// table: nothing is left, and no rule of the others changes.
func TestLeavesNoTrace(t *testing.T) {
	eachBackend(t, func(t *testing.T, e *env) {
		for beside, where := range map[string][]string{"nothing": {"raw"}, "others": tables[:]} {
			e := newEnv(t, e.backend)
			if beside == "others" {
				e.foreign(t)
			}
			e.touch(t)
			before := e.saved(t)
			for _, table := range where {
				f := e.open(t, parse(t, inTable(table)), nil)
				e.ok(t, f.Remove)
				if s := e.status(t, f); s.Healthy() || len(s.Families) != 2 {
					t.Errorf("before Install: %+v", s)
				}
				e.same(t, before, "after looking")
				e.installs(t, f)
				once := e.saved(t)
				e.installs(t, f)
				e.same(t, once, "after the second Install")
				e.installs(t, e.open(t, parse(t, inTable(table)), nil))
				e.same(t, once, "after the Install of a second daemon")
				for line := range strings.Lines(before) {
					if strings.HasPrefix(line, "-A") && !strings.Contains(once, line) {
						t.Errorf("beside %s: lost %s", beside, line)
					}
				}
				e.ok(t, f.Remove)
				e.same(t, before, "after Remove from "+table)
				e.ok(t, f.Remove)
				e.same(t, before, "after the second Remove")
			}
			if e.logged.Len() > 0 {
				t.Errorf("logged: %s", e.logged)
			}
		}
	})
}

// Looking creates no table, which would be for good with iptables-legacy.
func TestLookingCreatesNothing(t *testing.T) {
	eachBackend(t, func(t *testing.T, e *env) {
		f := e.open(t, parse(t, twoRules), nil)
		if s := e.status(t, f); s.Healthy() || len(s.Families) != 2 {
			t.Errorf("on an empty machine: %+v", s)
		}
		e.ok(t, f.Remove)
		e.same(t, "", "after Status and Remove")

		f = e.open(t, parse(t, "rules: [{name: a, string: x, families: [ipv4]}]"), nil)
		e.installs(t, f)
		if got := e.Must(t, "ip6tables-save"); got != "" {
			t.Errorf("a table of IPv6 that no rule needs: %s", got)
		}
		e.ok(t, f.Remove)
	})
}

// Install repairs what others break while we run, and leaves what they add.
func TestInstallHeals(t *testing.T) {
	eachBackend(t, func(t *testing.T, e *env) {
		e.foreign(t)
		e.touch(t)
		before := e.saved(t)
		f := e.open(t, parse(t, twoRules), nil)
		e.installs(t, f)
		right := e.saved(t)
		for _, harm := range []string{
			"-D OUTPUT 1", "-D CULPRIT 2", "-F CULPRIT", "-A CULPRIT -p udp -j NFLOG",
			"-R CULPRIT 1 -p udp -j NFLOG --nflog-group 1",
		} {
			e.Must(t, "sh", "-c", "ip6tables -t raw "+harm)
			if e.status(t, f).Healthy() {
				t.Errorf("%s: still healthy", harm)
			}
			e.installs(t, f)
			e.same(t, right, "after "+harm+" and Install")
		}
		e.Must(t, "ip6tables", "-t", "raw", "-I", "OUTPUT", "1", "-j", "ACCEPT")
		if s := e.status(t, f); s.Healthy() || s.Families[1].First || s.Families[1].Jumps != 1 {
			t.Errorf("with a rule of theirs before the jump: %+v", s)
		}
		e.installs(t, f)
		e.Must(t, "ip6tables", "-t", "raw", "-D", "OUTPUT", "-j", "ACCEPT")
		e.same(t, right, "after their rule came and went")
		e.ok(t, f.Remove)
		e.same(t, before, "after Remove")
	})
}

// Install refuses a chain of our name that holds other rules, and changes nothing.
func TestForeignChain(t *testing.T) {
	eachBackend(t, func(t *testing.T, e *env) {
		e.Must(t, "ip6tables", "-t", "raw", "-N", "CULPRIT")
		e.Must(t, "ip6tables", "-t", "raw", "-A", "CULPRIT", "-p", "udp", "-j", "DROP")
		e.Must(t, "ip6tables", "-t", "raw", "-A", "OUTPUT", "-j", "CULPRIT")
		e.touch(t)
		before := e.saved(t)
		f := e.open(t, parse(t, twoRules), nil)
		err := e.do(f.Install)
		if err == nil || !strings.Contains(err.Error(), "chain raw/CULPRIT of ipv6") || !strings.Contains(err.Error(), "firewall.chain") {
			t.Errorf("Install: %v", err)
		}
		e.same(t, before, "after Install was refused")
		if err := e.do(f.Remove); err == nil {
			t.Error("Remove of it: no error")
		}
		removed := 0
		if err := e.do(func() (err error) { removed, err = Clean("CULPRIT", e.log); return err }); err == nil || removed != 0 {
			t.Errorf("Clean of it: %d, %v", removed, err)
		}
		e.same(t, before, "after Remove and Clean were refused")

		// In a table that we do not use, the foreign chain does not matter.
		f = e.open(t, parse(t, inTable("filter")), nil)
		e.installs(t, f)
		e.ok(t, f.Remove)
		e.same(t, before, "after Install and Remove in another table")
	})
}

// A jump of somebody else's to our chain stays, and the error says so.
func TestForeignJump(t *testing.T) {
	eachBackend(t, func(t *testing.T, e *env) {
		f := e.open(t, parse(t, twoRules), nil)
		e.touch(t)
		before := e.saved(t)
		e.installs(t, f)
		e.Must(t, "iptables", "-t", "raw", "-A", "PREROUTING", "-i", "lo", "-j", "CULPRIT")
		if err := e.do(f.Remove); err == nil || !strings.Contains(err.Error(), "jump to the chain: delete those first") {
			t.Errorf("Remove: %v", err)
		}
		e.Must(t, "iptables", "-t", "raw", "-D", "PREROUTING", "-i", "lo", "-j", "CULPRIT")
		e.ok(t, f.Remove)
		got := e.saved(t)
		if strings.Contains(got, "CULPRIT") || e.backend == BackendLegacy && got != before {
			t.Errorf("left:\n%s", got)
		}
	})
}

// The printed commands do what Install does.
func TestCommandsDoTheSame(t *testing.T) {
	eachBackend(t, func(t *testing.T, e *env) {
		e.foreign(t)
		c := parse(t, inTable("mangle"))
		lines, err := Commands(c)
		if err != nil {
			t.Fatal(err)
		}
		e.Must(t, "sh", "-ec", strings.Join(lines, "\n"))
		f := e.open(t, c, nil)
		if s := e.status(t, f); !s.Healthy() {
			t.Errorf("after the printed commands: %+v", s)
		}
		printed := e.saved(t)
		e.ok(t, f.Remove)
		e.installs(t, f)
		e.same(t, printed, "after Install instead of the printed commands")
	})
}
