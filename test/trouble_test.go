package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"culprit/internal/event"
)

// A bad configuration: every mistake in one go, and nothing was done.
func TestBadConfig(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	before := h.firewall()
	config, evidence := h.configure(`
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
		r := h.culprit(append(command, "-c", config)...)
		r.fails(t, 2, config,
			"rules[0]", "exactly one",
			"rules[1].name", "rules[1].ports[0]", "1 to 65535", "rules[1].protocols[0]", "udp, tcp",
			"rules[2].name", "rules[2].hex",
			"rules[3].to[0]", "300.1.2.3",
			"firewall.table", "raw, mangle, filter",
			"capture.levels[0].window", "30s",
			"capture.trace_bytes", "capture.speed",
			"guard.never_users[0]", "no-such-user")
		if r.out != "" {
			t.Errorf("%v printed %s", command, r.out)
		}
	}
	h.unchanged(before, "after a bad configuration")
	if _, err := os.Stat(evidence); err == nil {
		t.Errorf("the evidence directory was made")
	}
	h.culprit("run", "-c", filepath.Join(h.dir, "none.yaml")).fails(t, 1, "none.yaml", "no such file")
	h.culprit("run", "-c", h.write("broken.yaml", "rules: [{")).fails(t, 2, "broken.yaml")
}

// as makes a command another user's.
func as(uid uint32, cmd *exec.Cmd) *exec.Cmd {
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	return cmd
}

func TestNotRoot(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	before := h.firewall()
	config, evidence := h.configure("")
	uid := newUID()
	for _, args := range [][]string{
		{"run", "-c", config},
		{"rules", "install", "-c", config},
		{"rules", "remove"},
		{"rules", "status", "-c", config},
		{"trace", "--uid", fmt.Sprint(uid)},
	} {
		h.command(as(uid, exec.Command(programs.culprit, args...))).fails(t, 1, "needs root", "sudo")
	}
	// What only reads needs none.
	h.command(as(uid, exec.Command(programs.culprit, "check", "-c", config))).must(t)
	h.unchanged(before, "after an attempt without root")
	if _, err := os.Stat(evidence); err == nil {
		t.Errorf("the evidence directory was made")
	}
	// Evidence is nobody's but root's.
	d := h.huntWith(config, evidence)
	h.command(as(uid, exec.Command(programs.culprit, "hits", "--evidence", evidence))).fails(t, 1, "permission denied", "root")
	d.stop()
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
			h := newHost(t, "")
			before := h.firewall()
			config, evidence := h.configure("")
			empty := h.write("empty", "")
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
			r := h.culprit("run", "-c", config)
			r.fails(t, 1, c.says...)
			if n := strings.Count(r.errors, "\n"); n != 1 {
				t.Errorf("%d lines of errors, want one:\n%s", n, r.errors)
			}
			if _, err := os.Stat(evidence); err == nil {
				t.Errorf("the evidence directory was made")
			}
			h.Do(func() {
				for _, path := range c.hide {
					syscall.Unmount(path, 0)
				}
			})
			h.unchanged(before, "after the failure")
		})
	}
}

// Two daemons get in each other's way only with an error that says so.
func TestSecondDaemon(t *testing.T) {
	eachBackend(t, func(t *testing.T, h *host) {
		before := h.firewall()
		d := h.hunt("nflog: {group: 4242}\n" + longWindow)
		installed := h.firewall()

		sameGroup, evidence := h.configure("nflog: {group: 4242}\nfirewall: {chain: OTHER}\n")
		h.culprit("run", "-c", sameGroup).fails(t, 1, "NFLOG group 4242", fmt.Sprint(d.pid), "nflog.group")
		h.unchanged(installed, "after a second daemon with the same group")
		if files, _ := filepath.Glob(evidence + "/traces/*"); len(files) > 0 {
			t.Errorf("the second daemon left %v", files)
		}

		h.started++
		sameDir := h.configureIn(d.evidence, "nflog: {group: 4243}\nfirewall: {chain: OTHER}\n")
		h.culprit("run", "-c", sameDir).fails(t, 1, d.evidence, "another culprit", "evidence.dir")
		h.unchanged(installed, "after a second daemon with the same evidence directory")

		s := h.sender(newUID())
		s.ask("x.badzone.test")
		traced(t, s.process) // the first one goes on
		if hits := d.hits(); len(hits) > 1 {
			t.Errorf("%d hits, want one", len(hits))
		}
		d.stop()
		h.unchanged(before, "after both")
	})
}

// A daemon that fails half way removes what it had begun. Here somebody else has
// a chain of our name.
func TestForeignChain(t *testing.T) {
	eachBackend(t, func(t *testing.T, h *host) {
		h.Must(t, "ip6tables", "-t", "raw", "-N", "CULPRIT")
		h.Must(t, "ip6tables", "-t", "raw", "-A", "CULPRIT", "-p", "udp", "-j", "DROP")
		before := h.firewall()
		config, _ := h.configure("")
		h.culprit("run", "-c", config).fails(t, 1, "CULPRIT", "firewall.chain")
		h.unchanged(before, "after the failure")
	})
}

// A machine without IPv6: a warning, and IPv4 works.
func TestNoIPv6(t *testing.T) {
	eachBackend(t, func(t *testing.T, h *host) {
		before := h.firewall()
		h.write("ip6tables", `#!/bin/sh
case "$*" in *--version*) exec /usr/sbin/ip6tables "$@";; esac
echo "ip6tables: can't initialize ip6tables table: Address family not supported by protocol" >&2; exit 3
`)
		h.Must(t, "sysctl", "-q", "-w", "net.ipv6.conf.all.disable_ipv6=1")
		config, evidence := h.configure(longWindow)
		d := h.huntWith(config, evidence, "PATH="+h.dir+":"+os.Getenv("PATH"))
		if log := d.output.String(); strings.Count(log, `"log.level":"WARN"`) != 1 || !d.logged("IPv6 is not watched") {
			t.Errorf("want one warning, that IPv6 is not watched:\n%s", log)
		}
		s := h.sender(newUID())
		s.ask("x.badzone.test")
		d.trace(s.pid, "is there", nil)
		d.capture(uint32(s.cmd.SysProcAttr.Credential.Uid), "has a trace", func(c event.Capture) bool { return c.Culprit.Traces == 1 })
		d.stop()
		h.unchanged(before, "after the daemon")
	})
}
