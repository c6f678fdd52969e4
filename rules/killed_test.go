package rules

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"culprit/internal/config"
)

// Whatever a killed daemon left, Install repairs it and Remove removes it.
func TestLeftovers(t *testing.T) {
	const other = " -p udp --dport 53 -m string --string OLD --algo bm -j NFLOG --nflog-group 5353 --nflog-prefix old"
	eachBackend(t, func(t *testing.T, e *env) {
		e.foreign(t)
		e.touch(t)
		before := e.saved(t)
		for _, tt := range []struct{ name, table, steps string }{
			{"an empty chain", "raw", ""},
			{"no jump", "raw", "-A CULPRIT" + other},
			{"other rules", "raw", "-A CULPRIT" + other + "\n-A CULPRIT" + other + "\n-I OUTPUT 1 -j CULPRIT"},
			{"a jump further down", "raw", "-A CULPRIT" + other + "\n-I OUTPUT 3 -j CULPRIT"},
			{"two jumps", "raw", "-A CULPRIT" + other + "\n-I OUTPUT 1 -j CULPRIT\n-A OUTPUT -j CULPRIT"},
			{"jumps that say different things", "raw", "-A OUTPUT -j CULPRIT\n-I OUTPUT 2 -m comment --comment \"" + madeTable + "\" -j CULPRIT"},
			{"another table", "mangle", "-A CULPRIT" + other + "\n-I OUTPUT 1 -j CULPRIT"},
		} {
			leave := func() { e.restore(t, tt.table, ":CULPRIT - [0:0]\n"+tt.steps) }
			f := e.open(t, parse(t, twoRules), nil)
			leave()
			if e.status(t, f).Healthy() {
				t.Errorf("%s: healthy before Install", tt.name)
			}
			e.installs(t, f)
			if got := e.saved(t); strings.Contains(got, "OLD") {
				t.Errorf("%s: after Install:\n%s", tt.name, got)
			}
			e.ok(t, f.Remove)
			e.same(t, before, tt.name+": after Install and Remove")

			leave()
			e.ok(t, f.Remove)
			e.same(t, before, tt.name+": after Remove")
		}
	})
}

// Whatever a daemon leaves that dies after any number of commands, the next one puts right, or
// its own cleanup does.
func TestKilledAtAnyMoment(t *testing.T) {
	eachBackend(t, func(t *testing.T, e *env) {
		for _, beside := range []string{"nothing", "others"} {
			if beside == "others" {
				e.foreign(t)
			}
			e.touch(t)
			before := e.saved(t)
			killed(t, e, before, 4, (*Firewall).Install)
			killed(t, e, before, 2, func(f *Firewall) error {
				alive, err := open(killedConfig(t), Sensing{}, e.log, instead("ip6tables", ""))
				if err == nil {
					err = alive.Install()
				}
				if err != nil {
					return err
				}
				return f.Remove()
			})
		}
	})
}

func killedConfig(t *testing.T) *config.Config {
	return parse(t, "rules: [{name: a, string: x, families: [ipv4]}]")
}

// killed calls f with an iptables that fails after ever more commands, until f succeeds. It
// expects at least atLeast failures before that.
func killed(t *testing.T, e *env, before string, atLeast int, f func(*Firewall) error) {
	t.Helper()
	left := filepath.Join(t.TempDir(), "left")
	mortal := script(t, fmt.Sprintf(`case "$*" in *--version*) exec iptables "$@";; esac
read n <%[1]s
[ "$n" -gt 0 ] || exit 4
echo $((n-1)) >%[1]s
exec iptables "$@"`, left))
	find := func(name string) (string, error) {
		if name == "iptables" {
			return mortal, nil
		}
		return "", errors.New("not needed")
	}
	for commands := 0; ; commands++ {
		if err := os.WriteFile(left, fmt.Appendln(nil, commands), 0o600); err != nil {
			t.Fatal(err)
		}
		dying := e.open(t, killedConfig(t), find)
		err := e.do(func() error { return f(dying) })
		next := e.open(t, killedConfig(t), instead("ip6tables", ""))
		e.installs(t, next)
		e.ok(t, next.Remove)
		e.same(t, before, fmt.Sprintf("killed after %d commands (%v)", commands, err))
		if err == nil && commands < atLeast {
			t.Errorf("it took only %d commands", commands)
		}
		if err == nil || t.Failed() {
			return
		}
	}
}
