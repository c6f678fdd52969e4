package faults

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"culprit/internal/event"
	"culprit/test/harness"
)

// A bad configuration: every mistake in one go, and nothing was done.
func TestBadConfig(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	before := h.Firewall()
	config, evidence := h.Configure(`
rules:
  - {name: one, string: x, domain: y.test}
  - {name: one, string: z, ports: [0], protocols: [icmp]}
  - {name: "a b", hex: "|zz|"}
  - {name: four, string: x, to: [300.1.2.3]}
firewall: {table: nat}
capture: {levels: [{hits: 1, window: 90}], trace_bytes: 5, speed: fast}
guard: {never_users: [no-such-user]}
`)
	for _, command := range [][]string{{"run"}, {"check"}, {"rules", "install"}, {"rules", "print"}} {
		r := h.Culprit(append(command, "-c", config)...)
		r.Fails(t, 2, config,
			"rules[0]", "exactly one",
			"rules[1].name", "rules[1].ports[0]", "1 to 65535", "rules[1].protocols[0]", "udp, tcp",
			"rules[2].name", "rules[2].hex",
			"rules[3].to[0]", "300.1.2.3",
			"firewall.table", "raw, mangle, filter",
			"capture.levels[0].window", "30s",
			"capture.trace_bytes", "capture.speed",
			"guard.never_users[0]", "no-such-user")
		if r.Out != "" {
			t.Errorf("%v printed %s", command, r.Out)
		}
	}
	h.Unchanged(before, "after a bad configuration")
	if _, err := os.Stat(evidence); err == nil {
		t.Errorf("the evidence directory was made")
	}
	h.Culprit("run", "-c", filepath.Join(h.Dir, "none.yaml")).Fails(t, 2, "none.yaml", "no such file")
	h.Culprit("run", "-c", h.Write("broken.yaml", "rules: [{")).Fails(t, 2, "broken.yaml")
}

func TestNotRoot(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	before := h.Firewall()
	config, evidence := h.Configure("")
	uid := harness.NewUID()
	for _, args := range [][]string{
		{"run", "-c", config},
		{"rules", "install", "-c", config},
		{"rules", "remove"},
		{"rules", "status", "-c", config},
		{"trace", "--uid", fmt.Sprint(uid)},
	} {
		h.Command(harness.As(uid, exec.Command(harness.Programs.Culprit, args...))).Fails(t, 1, "needs root", "sudo")
	}
	// What only reads needs none.
	h.Command(harness.As(uid, exec.Command(harness.Programs.Culprit, "check", "-c", config))).Must(t)
	h.Unchanged(before, "after an attempt without root")
	if _, err := os.Stat(evidence); err == nil {
		t.Errorf("the evidence directory was made")
	}
	// Evidence is nobody's but root's.
	d := h.HuntWith(config, evidence)
	h.Command(harness.As(uid, exec.Command(harness.Programs.Culprit, "hits", "--evidence", evidence))).Fails(t, 1, "permission denied", "root")
	d.Stop()
}

// A machine that lacks a program: one message with the remedy, and nothing is left.
func TestMissingPrograms(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		hide []string
		says []string
	}{
		"iptables": {[]string{"/usr/sbin/xtables-nft-multi", "/usr/sbin/xtables-legacy-multi"}, []string{"iptables", "install the package iptables"}},
		"strace":   {[]string{"/usr/bin/strace"}, []string{"strace", "install the package strace"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := harness.NewHost(t, "")
			before := h.Firewall()
			config, evidence := h.Configure("")
			empty := h.Write("empty", "")
			if err := os.Chmod(empty, 0o644); err != nil { // who is not executable is not found
				t.Fatal(err)
			}
			var err error
			h.Do(func() {
				for _, path := range c.hide {
					if err == nil {
						err = syscall.Mount(empty, path, "", syscall.MS_BIND, "")
					}
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			r := h.Culprit("run", "-c", config)
			r.Fails(t, 1, c.says...)
			if n := strings.Count(r.Errors, "\n"); n != 1 {
				t.Errorf("%d lines of errors, want one:\n%s", n, r.Errors)
			}
			if _, err := os.Stat(evidence); err == nil {
				t.Errorf("the evidence directory was made")
			}
			h.Do(func() {
				for _, path := range c.hide {
					syscall.Unmount(path, 0)
				}
			})
			h.Unchanged(before, "after the failure")
		})
	}
}

// Two daemons get in each other's way only with an error that says so.
func TestSecondDaemon(t *testing.T) {
	harness.EachBackend(t, func(t *testing.T, h *harness.Host) {
		before := h.Firewall()
		d := h.Hunt("nflog: {group: 4242}\n" + harness.LongWindow)
		installed := h.Firewall()

		sameGroup, evidence := h.Configure("nflog: {group: 4242}\nfirewall: {chain: OTHER}\n")
		h.Culprit("run", "-c", sameGroup).Fails(t, 1, "NFLOG group 4242", fmt.Sprint(d.PID), "nflog.group")
		h.Unchanged(installed, "after a second daemon with the same group")
		if files, _ := filepath.Glob(evidence + "/traces/*"); len(files) > 0 {
			t.Errorf("the second daemon left %v", files)
		}

		h.Started++
		sameDir := h.ConfigureIn(d.Evidence, "nflog: {group: 4243}\nfirewall: {chain: OTHER}\n")
		h.Culprit("run", "-c", sameDir).Fails(t, 1, d.Evidence, "another culprit", "evidence.dir")
		h.Unchanged(installed, "after a second daemon with the same evidence directory")

		s := h.Sender(harness.NewUID())
		s.Ask("x.badzone.test")
		harness.Traced(t, s.Process) // the first one goes on
		if hits := d.Hits(); len(hits) > 1 {
			t.Errorf("%d hits, want one", len(hits))
		}
		d.Stop()
		h.Unchanged(before, "after both")
	})
}

// A daemon that fails half way removes what it had begun. Here somebody else has
// a chain of our name.
func TestForeignChain(t *testing.T) {
	harness.EachBackend(t, func(t *testing.T, h *harness.Host) {
		h.Must(t, "ip6tables", "-t", "raw", "-N", "CULPRIT")
		h.Must(t, "ip6tables", "-t", "raw", "-A", "CULPRIT", "-p", "udp", "-j", "DROP")
		before := h.Firewall()
		config, _ := h.Configure("")
		h.Culprit("run", "-c", config).Fails(t, 1, "CULPRIT", "firewall.chain")
		h.Unchanged(before, "after the failure")
	})
}

// A machine without IPv6: a warning, and IPv4 works.
func TestNoIPv6(t *testing.T) {
	harness.EachBackend(t, func(t *testing.T, h *harness.Host) {
		before := h.Firewall()
		h.Write("ip6tables", `#!/bin/sh
case "$*" in *--version*) exec /usr/sbin/ip6tables "$@";; esac
echo "ip6tables: can't initialize ip6tables table: Address family not supported by protocol" >&2; exit 3
`)
		h.Must(t, "sysctl", "-q", "-w", "net.ipv6.conf.all.disable_ipv6=1")
		config, evidence := h.Configure(harness.LongWindow)
		d := h.HuntWith(config, evidence, "PATH="+h.Dir+":"+os.Getenv("PATH"))
		if log := d.Output.String(); strings.Count(log, `"log.level":"WARN"`) != 1 || !d.Logged("IPv6 is not watched") {
			t.Errorf("want one warning, that IPv6 is not watched:\n%s", log)
		}
		s := h.Sender(harness.NewUID())
		s.Ask("x.badzone.test")
		d.Trace(s.PID, "is there", nil)
		d.Capture(uint32(s.Cmd.SysProcAttr.Credential.Uid), "has a trace", func(c event.Capture) bool { return c.Culprit.Traces == 1 })
		d.Stop()
		h.Unchanged(before, "after the daemon")
	})
}
