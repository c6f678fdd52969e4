package rules

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// After an error half way Install removes what it began, whichever command fails.
func TestFailsInTheMiddle(t *testing.T) {
	eachBackend(t, func(t *testing.T, e *env) {
		e.touch(t)
		before := e.saved(t)
		for _, at := range []string{"-N CULPRIT", "-A CULPRIT", "--dport 5353", "-I OUTPUT"} {
			wrapper := script(t, fmt.Sprintf("case \"$*\" in *%q*) echo 'iptables: No chain/target/match by that name.' >&2; exit 1;; esac\nexec ip6tables \"$@\"", at))
			f := e.open(t, parse(t, twoRules), instead("ip6tables", wrapper))
			err := e.do(f.Install)
			if err == nil {
				t.Errorf("%s: no error", at)
				continue
			}
			if s := err.Error(); !strings.Contains(s, "modprobe -a xt_string xt_NFLOG") || strings.Contains(s, "\n") {
				t.Errorf("%s: %s", at, s)
			}
			e.same(t, before, "after an Install that failed at "+at)
		}
	})
}

// Without IPv6 there is one warning, and IPv4 works.
func TestNoIPv6(t *testing.T) {
	eachBackend(t, func(t *testing.T, e *env) {
		e.touch(t)
		before := e.saved(t)
		broken := script(t, `case "$*" in *--version*) exec ip6tables "$@";; esac
echo "ip6tables v1.8.9 (legacy): can't initialize ip6tables table \`+"`raw'"+`: Address family not supported by protocol" >&2; exit 3`)
		for name, find := range map[string]finder{
			"no ip6tables":             instead("ip6tables", ""),
			"an ip6tables that cannot": instead("ip6tables", broken),
		} {
			e.logged.Reset()
			f := e.open(t, parse(t, twoRules), find)
			e.ok(t, f.Install)
			e.ok(t, f.Install)
			s := e.status(t, f)
			if len(s.Families) != 1 || s.Families[0].Family != "ipv4" || !s.Healthy() {
				t.Errorf("%s: %+v", name, s)
			}
			if got := e.logged.String(); strings.Count(got, "level=WARN") != 1 || !strings.Contains(got, "IPv6 is not watched") {
				t.Errorf("%s: logged %s", name, got)
			}
			e.ok(t, f.Remove)
			e.same(t, before, name+": after Remove")

			only := parse(t, "rules: [{name: a, string: x, families: [ipv6]}]")
			err := e.do(func() error {
				f, err := open(only, Sensing{}, e.log, find)
				if err != nil {
					return err
				}
				return f.Install()
			})
			if err == nil || !strings.HasPrefix(err.Error(), "all rules are for ipv6 only: ") {
				t.Errorf("%s, only ipv6: %v", name, err)
			}
		}
	})
}

func TestKernelWithoutIPv6(t *testing.T) {
	t.Parallel()
	e := newEnv(t, BackendNFT)
	e.ok(t, func() error { return unix.Mount("none", "/proc/thread-self/net", "tmpfs", 0, "") })
	f := e.open(t, parse(t, twoRules), nil)
	if got := e.logged.String(); strings.Count(got, "level=WARN") != 1 || !strings.Contains(got, "the kernel does not support it") {
		t.Errorf("logged %s", got)
	}
	e.installs(t, f)
	if got := e.Must(t, "ip6tables-save"); strings.Contains(got, "CULPRIT") {
		t.Errorf("in IPv6: %s", got)
	}
	e.ok(t, f.Remove)
	e.same(t, "", "after Remove")
}

func TestNoIptables(t *testing.T) {
	t.Parallel()
	const want = "find iptables: \"iptables\": not in $PATH: install the package iptables (apt install iptables)"
	if _, err := open(parse(t, twoRules), Sensing{}, nil, instead("iptables", "")); err == nil || err.Error() != want {
		t.Errorf("New: %v", err)
	}
	if _, err := clean("CULPRIT", nil, instead("iptables", "")); err == nil || err.Error() != want {
		t.Errorf("Clean: %v", err)
	}
}

// Without root there is one line that says so.
func TestNotRoot(t *testing.T) {
	eachBackend(t, func(t *testing.T, e *env) {
		// Only this thread drops its privileges; it ends with the test.
		e.ok(t, func() error {
			// In /proc, root's groups can see the tables of iptables-legacy too.
			if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, 0, 0, 0); errno != 0 {
				return errno
			}
			for _, call := range []uintptr{unix.SYS_SETRESGID, unix.SYS_SETRESUID} {
				if _, _, errno := unix.RawSyscall(call, 65534, 65534, 65534); errno != 0 {
					return errno
				}
			}
			return nil
		})
		f := e.open(t, parse(t, twoRules), nil)
		for name, do := range map[string]func() error{
			"Install": f.Install,
			"Remove":  f.Remove,
			"Status":  func() error { _, err := f.Status(); return err },
			"Clean":   func() error { _, err := Clean("CULPRIT", e.log); return err },
		} {
			err := e.do(do)
			if err == nil {
				t.Errorf("%s: no error", name)
			} else if s := err.Error(); strings.Contains(s, "\n") || strings.Count(s, "run culprit as root") != 1 {
				t.Errorf("%s: %s", name, s)
			}
		}
	})
}
