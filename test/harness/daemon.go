package harness

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// A Daemon is a `culprit run` on a host.
type Daemon struct {
	*Process
	Host     *Host
	Config   string // path
	Evidence string // directory
	mark     string // in the environment of the daemon and of all that stems from it
}

// Hunt starts a daemon and waits until it is ready.
func (h *Host) Hunt(text string) *Daemon {
	h.T.Helper()
	config, evidence := h.Configure(text)
	return h.HuntWith(config, evidence)
}

// HuntWith is Hunt with a configuration that is written already, and with more environment.
func (h *Host) HuntWith(config, evidence string, env ...string) *Daemon {
	h.T.Helper()
	d := h.Launch(config, evidence, env...)
	d.AwaitLog("ready")
	return d
}

// Launch starts a daemon, and does not wait until it is ready.
func (h *Host) Launch(config, evidence string, env ...string) *Daemon {
	h.T.Helper()
	cmd := exec.Command(Programs.Culprit, "run", "-c", config)
	mark := fmt.Sprintf("CULPRIT_TEST_DAEMON=%d-%d", os.Getpid(), NewUID())
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), mark}, env...)
	d := &Daemon{Process: h.StartCommandAs(0, cmd), Host: h, Config: config, Evidence: evidence, mark: mark}
	h.T.Cleanup(func() {
		if !d.buried.Load() {
			for pid := range d.Left() {
				syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		if h.T.Failed() {
			h.T.Logf("log of the daemon %d:\n%s", d.PID, d.Output)
		}
	})
	return d
}

// AwaitLog waits until the daemon has logged a message.
func (d *Daemon) AwaitLog(message string) {
	d.T.Helper()
	Eventually(d.T, fmt.Sprintf("the daemon logs %q", message), func() error {
		if d.Logged(message) {
			return nil
		}
		if d.Ended() {
			d.T.Fatalf("the daemon ended with %d before it logged %q\n%s", code(d.Cmd), message, d.Output)
		}
		return errors.New("it has not")
	})
}

// Logged tells whether the log has a message that begins so.
func (d *Daemon) Logged(message string) bool {
	log := d.Output.String()
	return strings.Contains(log, `"message":"`+message) ||
		strings.Contains(log, "msg="+message) || strings.Contains(log, `msg="`+message)
}

// Stop ends the daemon as systemd would, and checks that it goes in good order.
func (d *Daemon) Stop() {
	d.T.Helper()
	d.Signal(syscall.SIGTERM)
	if got := d.Wait(); got != 0 {
		d.T.Errorf("the daemon ended with %d after SIGTERM, want 0", got)
	}
	if !d.Logged("stopped") {
		d.T.Errorf("the daemon did not log that it stopped")
	}
	if left := d.Left(); len(left) > 0 {
		d.T.Errorf("these processes outlived the daemon: %v", left)
		return
	}
	d.buried.Store(true)
}

// Left lists what stems from the daemon and lives, the daemon included, by PID.
func (d *Daemon) Left() map[int]string {
	left := map[int]string{}
	files, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, file := range files {
		env, err := os.ReadFile(file)
		if err != nil || !strings.Contains("\x00"+string(env), "\x00"+d.mark+"\x00") {
			continue
		}
		pid, _ := strconv.Atoi(strings.Split(file, "/")[2])
		args, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if state, _ := Status(pid); state != 0 && state != 'Z' {
			left[pid] = fmt.Sprintf("%s(%c)", bytes.ReplaceAll(args, []byte{0}, []byte{' '}), state)
		}
	}
	return left
}

// Straces lists the daemon's children, apart from the gate and the thawer.
func (d *Daemon) Straces() (pids []int) {
	for _, pid := range Children(d.PID) {
		if !is(pid, "gate") && !is(pid, "thaw") {
			pids = append(pids, pid)
		}
	}
	return pids
}

// Gate finds the daemon's gate; 0 if there is none.
func (d *Daemon) Gate() int { return d.helper("gate") }

// Thawer finds the process that lets stopped processes go on; 0 if there is none.
func (d *Daemon) Thawer() int { return d.helper("thaw") }

func (d *Daemon) helper(name string) int {
	for _, pid := range Children(d.PID) {
		if is(pid, name) {
			return pid
		}
	}
	return 0
}

// is reports whether a process is a helper of the daemon's.
func is(pid int, helper string) bool {
	args, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return strings.HasPrefix(string(args), "culprit\x00"+helper+"\x00")
}

// Gone waits until nothing of the daemon lives.
func (d *Daemon) Gone() {
	d.T.Helper()
	Within(d.T, Held, "the daemon's straces have ended", func() error {
		if left := d.Left(); len(left) > 0 {
			return fmt.Errorf("there are %v", left)
		}
		return nil
	})
	d.buried.Store(true)
}

// InPlace waits until the daemon has said so many times that its gate is in place.
func (d *Daemon) InPlace(times int) {
	d.T.Helper()
	Eventually(d.T, "the gate is in place", func() error {
		log := d.Output.String()
		if n := strings.Count(log, "the gate is in place") + strings.Count(log, "the gate does not cover"); n < times {
			return fmt.Errorf("said %d times, want %d", n, times)
		}
		return nil
	})
}

// Captured lets a user's process send a hit, and waits until the gate is in place.
func (d *Daemon) Captured(uid uint32) *Sender {
	d.T.Helper()
	s := d.Host.Sender(uid)
	s.Ask("first.badzone.test")
	d.Trace(s.PID, "is there", nil)
	d.InPlace(1)
	return s
}
