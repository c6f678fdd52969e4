package faults

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"culprit/test/harness"
)

// slowStrace makes a strace that takes its time: whoever waits for it stands still for that
// long. It returns what a daemon needs in its environment to use it.
func slowStrace(h *harness.Host, script string) (env string) {
	h.T.Helper()
	h.Write("strace", "#!/bin/sh\ncase \"$*\" in *-V*) ;; *) "+script+";; esac\nexec /usr/bin/strace \"$@\"\n")
	return "PATH=" + h.Dir + ":" + os.Getenv("PATH")
}

// A parent is told when the kernel stops its child at a packet. Here each kind of parent
// starts a program that sends one, while strace is so slow that the parent must notice. None
// behaves otherwise than without culprit. Children of parents that would act on it are not
// stopped; all are named.
func TestParentsNotice(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	names := string(mustRead(t, "/etc/passwd"))
	for _, name := range []string{"su", "runuser", "sudo", "sudo-in-a-terminal"} { // they want names
		uid := harness.NewUID()
		names += fmt.Sprintf("user-%s:*:%d:%d::/:/bin/sh\n", name, uid, uid)
	}
	h.Bind(t, "/etc/passwd", names)
	h.Bind(t, "/etc/sudoers", "root ALL=(ALL:ALL) ALL\nDefaults !use_pty\n")
	config, evidence := h.Configure(harness.Gated)
	d := h.HuntWith(config, evidence, slowStrace(h, "sleep 0.2"))
	send := harness.Programs.OffenderC + " -n %s.badzone.test"
	for _, c := range []struct {
		name    string
		stopped bool // the program is stopped at its packet
		command string
	}{
		{"sh", true, send + "; echo status $?"},
		{"make", true, `printf 'all: a b\na:\n\t@` + send + `\n\t@echo status 0\nb:\n\t@true\n' >$MAKEFILE; make -s -j4 -f $MAKEFILE`},
		{"timeout", true, "timeout 20 " + send + "; echo status $?"},
		{"vfork", true, villain(h) + " packet %s.badzone.test vsend && echo status 0"},
		{"xargs", true, "echo " + send + " | xargs -P2 -L1 env; echo status $?"},
		{"python", true, `python3 -I -S -c 'import os, signal, subprocess, sys
signal.signal(signal.SIGCHLD, lambda *_: None)
print("status", subprocess.call(sys.argv[1:]))' ` + send},
		// Job control, without a terminal (there it must wait by then) and with one.
		{"bash-m", false, `bash -c 'set -m; ` + send + ` -b 300; echo status $?'`},
		{"bash-i", false, `printf '` + send + `; echo status $?\nexit\n' | script -qec 'bash --norc -i' /dev/null`},
		{"bash-i-background", false, `printf '` + send + ` & wait $!; echo status $?\nexit\n' | script -qec 'bash --norc -i' /dev/null`},
		{"dash-i", false, `printf '` + send + `; echo status $?\nexit\n' | script -qec 'dash -i' /dev/null`},
		{"script-in-a-terminal", true, `script -qec 'sh -c "` + send + `; echo status 0"' /dev/null`},
		// They stop themselves when their child is stopped.
		{"su", false, "su -s /bin/sh user-%s -c 'exec " + send + "'; echo status $?"},
		{"runuser", false, "runuser -s /bin/sh user-%s -c 'exec " + send + "'; echo status $?"},
		{"sudo", false, "sudo -u user-%s " + send + "; echo status $?"},
		{"sudo-in-a-terminal", false, "script -qec 'sudo -u user-%s " + send + "; echo status $?' /dev/null"},
		// A tracer is not disturbed.
		{"strace", false, "/usr/bin/strace -f -o $MAKEFILE " + send + "; ! grep SIGSTOP $MAKEFILE && echo status $?"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			uid := harness.NewUID()
			if strings.Contains(c.command, "user-") {
				uid = 0
			}
			command := strings.ReplaceAll(c.command, "%s", c.name)
			cmd := exec.Command("sh", "-c", command)
			cmd.Env = append(os.Environ(), "MAKEFILE="+filepath.Join(h.Dir, "file-of-"+c.name), "TERM=dumb", "PS1=$ ")
			if err := os.WriteFile(filepath.Join(h.Dir, "file-of-"+c.name), nil, 0o666); err != nil {
				t.Fatal(err)
			}
			os.Chmod(filepath.Join(h.Dir, "file-of-"+c.name), 0o666)
			p := h.StartCommandAs(uid, cmd)
			harness.Eventually(t, "the program and its parent end", func() error {
				if !p.Ended() {
					return fmt.Errorf("they have not, and said %q", p.Output)
				}
				return nil
			})
			said := p.Output.String()
			if strings.Count(said, "status 0") != 1 || strings.Contains(said, "topped") || p.Wait() != 0 {
				t.Errorf("they ended with %d and said:\n%s", p.Wait(), said)
			}
			hit := d.Hit(c.name + ".badzone.test")
			if hit.Process == nil || hit.Culprit.Sent == nil {
				t.Fatalf("the kernel did not name the sender: %+v", hit.Culprit.Origin)
			}
			fromPacket := false
			if c.stopped {
				fromPacket = d.Trace(hit.Process.PID, "has ended", harness.Ended).Culprit.FromPacket
			} else {
				for _, tr := range d.Traces() {
					fromPacket = fromPacket || tr.Process.PID == hit.Process.PID && tr.Culprit.FromPacket
				}
			}
			if fromPacket != c.stopped {
				t.Errorf("the program was stopped at its packet: %v, want %v", fromPacket, c.stopped)
			}
		})
	}
}
