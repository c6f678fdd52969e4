package test

import (
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"culprit/internal/event"
	"culprit/internal/words"
)

// What traced programs do, and what is done to them, turns out as if nobody watched.

// A stealth is what a user's program does, and what its trace shows of it.
type stealth struct {
	name  string
	steps func(h *host) []string
	code  int
	shows []string // in the trace
}

// suid makes a set-user-ID copy of the villain for root.
func (h *host) suid() string {
	h.t.Helper()
	path := filepath.Join(h.dir, "suid")
	h.Must(h.t, "install", "-m", "4755", h.villain(), path)
	return path
}

func steps(words ...string) func(*host) []string {
	return func(*host) []string { return words }
}

var stealths = []stealth{
	{"ends with a status", steps("say", "a", "exit", "7"), 7, []string{"+++ exited with 7 +++"}},
	{"is killed by a signal", steps("say", "a", "signal", "9"), 137, []string{"+++ killed by SIGKILL +++"}},
	{"its child is killed", steps("fork", "say", "a", "signal", "11"), 139, []string{"+++ killed by SIGSEGV", "+++ exited with 139 +++"}},
	{"executes a set-user-ID program", func(h *host) []string {
		return []string{"ids", "exec", h.suid(), "ids", "setuid", "0", "ids", "exit", "3"}
	}, 3, []string{"/suid", "setresuid(0, 0, 0) = 0", "+++ exited with 3 +++"}},
	{"becomes another user by a set-user-ID program", func(h *host) []string {
		return []string{"exec", h.suid(), "setuid", "1", "ids", "exit", "4"}
	}, 4, []string{"setresuid(1, 1, 1)", "+++ exited with 4 +++"}},
	{
		"enters namespaces", steps("unshare", "user", "unshare", "pid", "unshare", "net", "unshare", "mnt", "fork", "ids", "exit", "5"), 5,
		[]string{"unshare(CLONE_NEWPID)", "PID 1", "+++ exited with 5 +++"},
	},
	{
		"has no network there", steps("unshare", "user", "unshare", "net", "packet", "x.badzone.test", "send"), 1,
		[]string{"ENETUNREACH", "+++ exited with 1 +++"},
	},
	{"changes its root", func(h *host) []string {
		h.Must(h.t, "install", "-D", "-m", "755", h.villain(), h.dir+"/jail/villain")
		return []string{"unshare", "user", "chroot", h.dir + "/jail", "exec", "/villain", "say", "a", "exit", "6"}
	}, 6, []string{`execve("/villain"`, "+++ exited with 6 +++"}},
	{"may not do what is forbidden", steps("setuid", "0"), 1, []string{"setresuid(0, 0, 0)", "EPERM"}},
}

func TestBehavesAsUntraced(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	all := make([][]string, len(stealths))
	for i, s := range stealths {
		// On a busy machine strace may come a little later.
		all[i] = append([]string{"sleep", "200"}, s.steps(h)...)
	}
	run := func(uid uint32) (ps []*process, said []string) {
		for i, s := range stealths {
			p := h.start(uid, h.villain(), all[i]...)
			if got := p.wait(); got != s.code {
				t.Errorf("who %s as user %d ended with %d, want %d: %s", s.name, uid, got, s.code, p.output)
			}
			ps, said = append(ps, p), append(said, strings.ReplaceAll(p.output.String(), fmt.Sprint(uid), "UID"))
		}
		return ps, said
	}
	_, alone := run(newUID())

	d := h.hunt(gated)
	uid := newUID()
	d.captured(uid)
	ps, watched := run(uid)
	for i, s := range stealths {
		if alone[i] != watched[i] {
			t.Errorf("who %s says %q when it is traced, otherwise %q", s.name, watched[i], alone[i])
		}
		tr := d.trace(ps[i].pid, "has ended", ended)
		_, _, body := readTrace(t, tr.File.Path)
		for _, want := range s.shows {
			if !strings.Contains(body, want) {
				t.Errorf("the trace of who %s does not show %q:\n%s", s.name, want, tail(body))
			}
		}
		if c := tr.Process.ExitCode; c == nil || *c != s.code {
			t.Errorf("the trace of who %s has the exit code %v, want %d; it ended because %q", s.name, c, s.code, tr.Culprit.EndedBecause)
		}
	}
	d.lean()
	d.stop()
	h.unharmed(uid)
}

// A process of the user's in PID, mount and network namespaces of its own, and in
// another root: its lines have the PIDs of the host, and its packets their proofs.
func TestTraceInNamespaces(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	d := h.hunt(gated)
	uid := newUID()
	d.captured(uid)
	h.Must(t, "install", "-D", "-m", "755", h.villain(), h.dir+"/jail/villain")
	p := h.start(0, h.villain(), "unshare", "pid", "unshare", "mnt", "fork", "chroot", h.dir+"/jail", "setuid", fmt.Sprint(uid), "exec", "/villain",
		"sleep", "500", "ids", "packet", "inner.badzone.test", "send", "wait", "fork", "packet", "innermost.badzone.test", "send", "wait", "exit", "9")
	p.said("wait", 1)
	inner := onlyChild(t, p.pid)
	p.say("")
	p.said("wait", 2)
	innermost := onlyChild(t, inner)
	tracedPID(t, innermost)
	p.say("")
	if got := p.wait(); got != 9 || !strings.Contains(p.output.String(), ", PID 1") {
		t.Errorf("it ended with %d: %s", got, p.output)
	}
	tr := d.trace(inner, "has ended", ended)
	d.lean()
	d.stop()
	h.unharmed(uid)

	for name, pid := range map[string]int{"inner.badzone.test": inner, "innermost.badzone.test": innermost} {
		hit := d.proven(t, name)
		if c := hit.Culprit.Proof; c == nil || c.TID != pid || c.Trace.ID != tr.Event.ID || hit.Process == nil || hit.Process.PID != pid {
			t.Errorf("%s is of process %+v by the proof %+v, want %d", name, hit.Process, c, pid)
		}
	}
	_, _, body := readTrace(t, tr.File.Path)
	for line := range strings.Lines(body) {
		if first, _, _ := strings.Cut(line, " "); first != fmt.Sprint(inner) && first != fmt.Sprint(innermost) {
			t.Errorf("the line is neither of %d nor of %d: %s", inner, innermost, line)
		}
	}
	if c := tr.Process.ExitCode; c == nil || *c != 9 {
		t.Errorf("the trace's exit code is %v, want 9", c)
	}
}

// A child that strace is not to follow (CLONE_UNTRACED) gets a strace of its own.
func TestUntracedChild(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	d := h.hunt(gated)
	uid := newUID()
	d.captured(uid)
	p := h.start(uid, h.villain(), "untraced", "say", "a", "wait", "packet", "hidden.badzone.test", "send", "exit", "8")
	p.said("wait", 1)
	child := onlyChild(t, p.pid)
	tracedPID(t, child)
	p.say("")
	if got := p.wait(); got != 8 {
		t.Errorf("it ended with %d: %s", got, p.output)
	}
	tr := d.trace(child, "has ended", ended)
	if c := tr.Process.ExitCode; c == nil || *c != 8 || tr.Culprit.FoundBy != event.FoundFork {
		t.Errorf("the child was found by %s, and has the exit code %v, want %s and 8", tr.Culprit.FoundBy, c, event.FoundFork)
	}
	d.lean()
	d.stop()
	h.unharmed(uid)
	if hit := d.proven(t, "hidden.badzone.test"); hit.Process == nil || hit.Process.PID != child {
		t.Errorf("the packet is of process %+v, want %d", hit.Process, child)
	}
}

// A process that no signal and no tracer can stop for now (it waits for its vfork)
// holds nobody up: not the daemon, nor does anybody hold up the process.
func TestUnstoppableProcess(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	d := h.hunt(gated)
	uid := newUID()
	var ps []*process
	for range 2 {
		p := h.start(uid, h.villain(), "vfork", "packet", "x.goodzone.test", "send", "exit", "6")
		p.said("wait", 1)
		if state, _ := status(p.pid); state != 'D' {
			t.Fatalf("its state is %c, want D", state)
		}
		ps = append(ps, p)
	}
	d.captured(uid)
	traced(t, ps...)
	ps[0].say("")
	if got := ps[0].wait(); got != 6 {
		t.Errorf("the traced process ended with %d: %s", got, ps[0].output)
	}
	tr := d.trace(ps[0].pid, "has ended", ended)
	if c := tr.Process.ExitCode; c == nil || *c != 6 {
		t.Errorf("the trace ended because %q, with the exit code %v", tr.Culprit.EndedBecause, c)
	}
	d.tracesOn(t, uid)
	d.lean()
	d.stop()
	free(t, ps[1])
	ps[1].say("")
	if got := ps[1].wait(); got != 6 {
		t.Errorf("the process that was traced ended with %d: %s", got, ps[1].output)
	}
	h.unharmed(uid)
}

// A process that is traced goes through another network namespace and comes back.
func TestTraceThroughNetworks(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	d := h.hunt(gated)
	p := h.start(0, h.villain(), "packet", "here.badzone.test", "send", "wait",
		"unshare", "net", "say", "there", "wait", "packet", "back.badzone.test", "send", "exit", "0")
	p.said("wait", 1)
	traced(t, p) // root's process alone
	tr := d.trace(p.pid, "is there", nil)
	p.say("")
	p.said("wait", 2)
	p.say("") // its socket is still of the first network
	if got := p.wait(); got != 0 {
		t.Errorf("it ended with %d: %s", got, p.output)
	}
	d.trace(p.pid, "has ended", ended)
	d.stop()
	if c := d.proven(t, "back.badzone.test").Culprit.Proof; c != nil && c.Trace.ID != tr.Event.ID {
		t.Errorf("the proof is in trace %s, want %s", c.Trace.ID, tr.Event.ID)
	}
}

// A process that becomes the user is found by that; one that becomes another stays in
// its trace: it is the same process.
func TestChangesUser(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	uid, other, never := newUID(), newUID(), newUID()
	d := h.hunt(gated + fmt.Sprintf("guard: {never_users: [%d]}\n", never))
	s := d.captured(uid)
	comes := h.start(0, h.villain(), "wait", "setuid", fmt.Sprint(uid), "wait", "exit", "1")
	comes.said("wait", 1)
	if d.tracedPIDs()[comes.pid] {
		t.Error("a process of root is traced")
	}
	comes.say("")
	comes.said("wait", 2)
	traced(t, comes)
	if tr := d.trace(comes.pid, "is there", nil); tr.Culprit.FoundBy != event.FoundUID {
		t.Errorf("it was found by %s, want %s", tr.Culprit.FoundBy, event.FoundUID)
	}

	leaves := h.start(uid, h.villain(), "exec", h.suid(), "wait", "setuid", fmt.Sprint(other), "wait", "fork", "exec", h.villain(), "say", "as another", "exit", "2")
	leaves.said("wait", 1)
	traced(t, leaves)
	leaves.say("")
	leaves.said("wait", 2)
	leaves.say("")
	if got := leaves.wait(); got != 2 {
		t.Errorf("it ended with %d: %s", got, leaves.output)
	}
	tr := d.trace(leaves.pid, "has ended", ended)
	_, _, body := readTrace(t, tr.File.Path)
	if !strings.Contains(body, `, "as another", 10) = 10`) || tr.Process.ExitCode == nil || *tr.Process.ExitCode != 2 {
		t.Errorf("the trace of the process that became another user ended because %q, with\n%s", tr.Culprit.EndedBecause, tail(body))
	}

	// Unless that is one who is never traced.
	hides := h.start(uid, h.villain(), "exec", h.suid(), "wait", "setuid", fmt.Sprint(never), "wait", "exit", "3")
	hides.said("wait", 1)
	traced(t, hides)
	hides.say("")
	hides.said("wait", 2)
	tr = d.trace(hides.pid, "has ended", ended)
	if want := "detached: guard.never_users names the user"; words.TraceEnded(tr.Culprit.EndedBecause) != want {
		t.Errorf("the trace of the process that became a user who is never traced ended because %q, want %q", tr.Culprit.EndedBecause, want)
	}
	free(t, hides)
	hides.say("")
	if got := hides.wait(); got != 3 {
		t.Errorf("it ended with %d: %s", got, hides.output)
	}

	if all := d.captures("--user", fmt.Sprint(other)); len(all) != 0 {
		t.Errorf("there are captures of the other user: %+v", all)
	}
	d.lean()
	d.stop()
	h.unharmed(uid, other)
	free(t, s.process, comes)
}

// A process that somebody stops stays stopped until it is continued, traced or not.
func TestStoppedProcess(t *testing.T) {
	for _, c := range []struct {
		name string
		sig  syscall.Signal
		end  func(*daemon)
	}{
		{"SIGSTOP", syscall.SIGSTOP, (*daemon).stop},
		{"SIGTSTP", syscall.SIGTSTP, (*daemon).stop},
		{"culprit is killed", syscall.SIGSTOP, func(d *daemon) {
			d.signal(syscall.SIGKILL)
			d.wait()
			d.gone()
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, "")
			d := h.hunt(gated)
			uid := newUID()
			before := h.sender(uid) // stopped before it is traced
			stop := func(p *process) {
				t.Helper()
				p.signal(c.sig)
				eventually(t, "the process is stopped", func() error { return isStopped(p.pid) })
			}
			stop(before.process)
			s := d.captured(uid)
			traced(t, before.process)
			// It answers as soon as it goes on, so who does not answer is stopped.
			for round, p := range []*sender{before, s} {
				if p == s {
					stop(p.process)
				}
				p.say(fmt.Sprintf("ask stopped%d.badzone.test 1", round))
				stays(t, p)
				p.signal(syscall.SIGCONT)
				p.reply()
			}
			stop(before.process)
			s.ask("traced.badzone.test")
			d.trace(before.pid, "is there", nil)
			tr := d.trace(s.pid, "is there", nil)
			stop(s.process)
			d.lean()
			c.end(d)
			for i, p := range []*sender{before, s} {
				eventually(t, "it is stopped and not traced", func() error {
					if state, tracer := status(p.pid); state != 'T' || tracer != 0 {
						return fmt.Errorf("its state is %c, its tracer %d", state, tracer)
					}
					return nil
				})
				p.say(fmt.Sprintf("ask untraced%d.badzone.test 1", i))
				stays(t, p)
				p.signal(syscall.SIGCONT)
				p.reply()
			}
			h.unharmed(uid)
			text, err := readFile(tr.File.Path)
			if want := fmt.Sprintf("--- stopped by %s ---", unix.SignalName(c.sig)); err != nil || !strings.Contains(string(text), want) {
				t.Errorf("the trace does not show %q: %v\n%s", want, err, tail(string(text)))
			}
		})
	}
}

// isStopped checks that a process is stopped by a signal. Of one that is traced the
// kernel says that the tracer stops it; then its threads do nothing either way.
func isStopped(pid int) error {
	if state, _ := status(pid); state != 'T' && state != 't' {
		return fmt.Errorf("its state is %c", state)
	}
	return nil
}

// stays checks that a stopped process does not go on, for a moment in which it would. On
// its way through its tracer, a signal lets it run for some microseconds, but do nothing.
func stays(t *testing.T, s *sender) {
	t.Helper()
	for range 20 {
		eventually(t, "the process stays stopped", func() error { return isStopped(s.pid) })
		time.Sleep(5 * time.Millisecond)
	}
	if n := strings.Count(s.output.String(), "\n"); n > s.replies {
		t.Fatalf("the stopped process answers: %s", s.output)
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
			h := newHost(t, "")
			d := h.hunt(gated)
			uid := newUID()
			d.captured(uid)
			p := h.start(uid, "python3", "-I", "-S", "-c", leaderScript, h.villain())
			p.said("wait", 1)
			traced(t, p)
			p.say("")
			eventually(t, "the first thread has ended", func() error {
				if state, _ := status(p.pid); state != 'Z' {
					return fmt.Errorf("its state is %c", state)
				}
				return nil
			})
			p.say("thread.badzone.test")
			d.hit("thread.badzone.test")
			names := []string{"thread.badzone.test"}
			if tr := d.trace(p.pid, "is there", nil); ended(tr) {
				t.Errorf("the trace has ended with the first thread: %q", tr.Culprit.EndedBecause)
			}
			if end == "ends" {
				p.stdin.Close()
			} else {
				p.say("exec")
				names = append(names, "becomes.badzone.test")
			}
			if got := p.wait(); got != 5 {
				t.Errorf("it ended with %d: %s", got, p.output)
			}
			tr := d.trace(p.pid, "has ended", ended)
			if c := tr.Process.ExitCode; c == nil || *c != 5 {
				t.Errorf("the trace ended because %q, with the exit code %v, want 5", tr.Culprit.EndedBecause, c)
			}
			d.lean()
			d.stop()
			h.unharmed(uid)
			for _, name := range names {
				if hit := d.proven(t, name); hit.Process == nil || hit.Process.PID != p.pid {
					t.Errorf("%s is of process %+v, want %d", name, hit.Process, p.pid)
				}
			}
		})
	}
}
