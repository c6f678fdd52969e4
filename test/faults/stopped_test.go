package faults

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"culprit/test/harness"
)

// A process that no signal and no tracer can stop for now (it waits for its vfork)
// holds nobody up: not the daemon, nor does anybody hold up the process.
func TestUnstoppableProcess(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	d := h.Hunt(harness.Gated)
	uid := harness.NewUID()
	var ps []*harness.Process
	for range 2 {
		p := h.StartAs(uid, villain(h), "vfork", "packet", "x.goodzone.test", "send", "exit", "6")
		p.Said("wait", 1)
		if state, _ := harness.Status(p.PID); state != 'D' {
			t.Fatalf("its state is %c, want D", state)
		}
		ps = append(ps, p)
	}
	d.Captured(uid)
	harness.Traced(t, ps...)
	ps[0].Say("")
	if got := ps[0].Wait(); got != 6 {
		t.Errorf("the traced process ended with %d: %s", got, ps[0].Output)
	}
	tr := d.Trace(ps[0].PID, "has ended", harness.Ended)
	if c := tr.Process.ExitCode; c == nil || *c != 6 {
		t.Errorf("the trace ended because %q, with the exit code %v", tr.Culprit.EndedBecause, c)
	}
	tracesOn(t, d, uid)
	lean(d)
	d.Stop()
	harness.Free(t, ps[1])
	ps[1].Say("")
	if got := ps[1].Wait(); got != 6 {
		t.Errorf("the process that was traced ended with %d: %s", got, ps[1].Output)
	}
	h.Unharmed(uid)
}

// A process that somebody stops stays stopped until it is continued, traced or not.
func TestStoppedProcess(t *testing.T) {
	for _, c := range []struct {
		name string
		sig  syscall.Signal
		end  func(*harness.Daemon)
	}{
		{"SIGSTOP", syscall.SIGSTOP, (*harness.Daemon).Stop},
		{"SIGTSTP", syscall.SIGTSTP, (*harness.Daemon).Stop},
		{"culprit is killed", syscall.SIGSTOP, func(d *harness.Daemon) {
			d.Signal(syscall.SIGKILL)
			d.Wait()
			d.Gone()
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := harness.NewHost(t, "")
			d := h.Hunt(harness.Gated)
			uid := harness.NewUID()
			before := h.Sender(uid) // stopped before it is traced
			stop := func(p *harness.Process) {
				t.Helper()
				p.Signal(c.sig)
				harness.Eventually(t, "the process is stopped", func() error { return staysStopped(p.PID) })
			}
			stop(before.Process)
			s := d.Captured(uid)
			harness.Traced(t, before.Process)
			// It answers as soon as it goes on, so who does not answer is stopped.
			for round, p := range []*harness.Sender{before, s} {
				if p == s {
					stop(p.Process)
				}
				p.Say(fmt.Sprintf("ask stopped%d.badzone.test 1", round))
				stays(t, p)
				p.Signal(syscall.SIGCONT)
				p.Reply()
			}
			stop(before.Process)
			s.Ask("traced.badzone.test")
			d.Trace(before.PID, "is there", nil)
			tr := d.Trace(s.PID, "is there", nil)
			stop(s.Process)
			lean(d)
			c.end(d)
			for i, p := range []*harness.Sender{before, s} {
				harness.Eventually(t, "it is stopped and not traced", func() error {
					if state, tracer := harness.Status(p.PID); state != 'T' || tracer != 0 {
						return fmt.Errorf("its state is %c, its tracer %d", state, tracer)
					}
					return nil
				})
				p.Say(fmt.Sprintf("ask untraced%d.badzone.test 1", i))
				stays(t, p)
				p.Signal(syscall.SIGCONT)
				p.Reply()
			}
			h.Unharmed(uid)
			text, err := harness.ReadFile(tr.File.Path)
			if want := fmt.Sprintf("--- stopped by %s ---", unix.SignalName(c.sig)); err != nil || !strings.Contains(string(text), want) {
				t.Errorf("the trace does not show %q: %v\n%s", want, err, harness.Tail(string(text)))
			}
		})
	}
}

// staysStopped checks that a process is stopped, and not only between two system calls.
func staysStopped(pid int) error {
	for range 10 {
		if err := isStopped(pid); err != nil {
			return err
		}
		time.Sleep(2 * time.Millisecond)
	}
	return nil
}

// isStopped checks that a process is stopped by a signal. Of one that is traced the
// kernel says that the tracer stops it; then its threads do nothing either way.
func isStopped(pid int) error {
	if state, _ := harness.Status(pid); state != 'T' && state != 't' {
		return fmt.Errorf("its state is %c", state)
	}
	return nil
}

// stays checks that a stopped process does not go on, for a moment in which it would. On
// its way through its tracer, a signal lets it run for some microseconds, but do nothing.
func stays(t *testing.T, s *harness.Sender) {
	t.Helper()
	for range 20 {
		harness.Eventually(t, "the process stays stopped", func() error { return isStopped(s.PID) })
		time.Sleep(5 * time.Millisecond)
	}
	if n := strings.Count(s.Output.String(), "\n"); n > s.Replies {
		t.Fatalf("the stopped process answers: %s", s.Output)
	}
}

// leaderScript is a process whose first thread ends when it is told to, while another
// one sends what it is told to ask for, and ends the process in the end.
const leaderScript = `
import ctypes, os, socket, sys, threading
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect(("127.0.0.1", 53))
ready = threading.Event()
def work():
    ready.wait()
    for line in sys.stdin:
        if line == "exec\n":
            os.execv(sys.argv[1], [sys.argv[1], "packet", "becomes.badzone.test", "send", "exit", "5"])
        labels = b"".join(bytes([len(l)]) + l.encode() for l in line.strip().split("."))
        s.send(os.urandom(2) + b"\x01\0\0\x01\0\0\0\0\0\0" + labels + b"\0\0\x01\0\x01")
    os._exit(5)
threading.Thread(target=work).start()
print("wait", flush=True)
sys.stdin.readline()
ready.set()
ctypes.CDLL(None).syscall(60 if os.uname().machine == "x86_64" else 93, 0) # exit, of this thread
`

// The first thread of a process ends before the others: those stay in the trace, and
// what they send is still the process's.
func TestFirstThreadEnds(t *testing.T) {
	for _, end := range []string{"ends", "executes a program"} {
		t.Run(end, func(t *testing.T) {
			t.Parallel()
			h := harness.NewHost(t, "")
			d := h.Hunt(harness.Gated)
			uid := harness.NewUID()
			d.Captured(uid)
			p := h.StartAs(uid, "python3", "-I", "-S", "-c", leaderScript, villain(h))
			p.Said("wait", 1)
			harness.Traced(t, p)
			p.Say("")
			harness.Eventually(t, "the first thread has ended", func() error {
				if state, _ := harness.Status(p.PID); state != 'Z' {
					return fmt.Errorf("its state is %c", state)
				}
				return nil
			})
			p.Say("thread.badzone.test")
			d.Hit("thread.badzone.test")
			names := []string{"thread.badzone.test"}
			if tr := d.Trace(p.PID, "is there", nil); harness.Ended(tr) {
				t.Errorf("the trace has ended with the first thread: %q", tr.Culprit.EndedBecause)
			}
			if end == "ends" {
				p.Stdin.Close()
			} else {
				p.Say("exec")
				names = append(names, "becomes.badzone.test")
			}
			if got := p.Wait(); got != 5 {
				t.Errorf("it ended with %d: %s", got, p.Output)
			}
			tr := d.Trace(p.PID, "has ended", harness.Ended)
			if c := tr.Process.ExitCode; c == nil || *c != 5 {
				t.Errorf("the trace ended because %q, with the exit code %v, want 5", tr.Culprit.EndedBecause, c)
			}
			lean(d)
			d.Stop()
			h.Unharmed(uid)
			for _, name := range names {
				if hit := d.Proven(t, name); hit.Process == nil || hit.Process.PID != p.PID {
					t.Errorf("%s is of process %+v, want %d", name, hit.Process, p.PID)
				}
			}
		})
	}
}
