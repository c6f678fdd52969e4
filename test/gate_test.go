package test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"culprit/internal/event"
	"culprit/internal/testkit"
)

// gated is a configuration whose captures take all that comes, with a gate that
// waits so long that it need not on a busy machine.
const gated = `capture:
  levels: [{hits: 1, processes: 100000, window: 10m, strings: 512}]
  concurrent: 64
  gate_deadline: 5s
`

// quick is the same with a deadline that tests can wait for.
var quick = strings.Replace(gated, "5s", "300ms", 1)

// held is how long a program may be held up when something is wrong with the gate.
// The deadline and the watchdog are shorter by far; machines that test are busy ones.
const held = 10 * time.Second

// A stream starts programs of a user, some at a time, and measures each from fork to
// end. It is root's, and not a Go program: fork in Go waits for the child's execve
// with all else, and so starts one program at a time.
type stream struct {
	*process
}

const streamScript = `
import os, select, sys, time
uid, count, workers = map(int, sys.argv[1:4])
def start(label):
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            os.execv(sys.argv[4], [a.replace("LABEL", label) for a in sys.argv[4:]])
        finally:
            os._exit(99)
    return pid
def work(i):
    while (count == 0 or i < count) and not select.select([0], [], [], 0)[0]:
        label = "p%du%d" % (i, uid)
        began = time.monotonic()
        pid = start(label)
        os.write(1, b"start %s %d\n" % (label.encode(), pid))
        _, status = os.waitpid(pid, 0)
        os.write(1, b"ran %s %d %d %d\n" % (label.encode(), pid, (time.monotonic() - began) * 1e6, os.waitstatus_to_exitcode(status)))
        i += workers
if workers > 1:
    for w in range(workers):
        if os.fork() == 0:
            work(w)
            os._exit(0)
    for w in range(workers):
        os.wait()
else:
    work(0)
`

// stream starts so many programs (0: without end), so many at a time. LABEL in the
// arguments becomes a name that no two programs share.
func (h *host) stream(uid uint32, count, workers int, program string, args ...string) *stream {
	h.t.Helper()
	args = append([]string{"-I", "-S", h.write("stream.py", streamScript), fmt.Sprint(uid), fmt.Sprint(count), fmt.Sprint(workers), program}, args...)
	return &stream{h.start(0, "python3", args...)}
}

// A run is a program that a stream has started and that has ended.
type run struct {
	label  string
	pid    int
	took   time.Duration
	status int
}

// runs are the programs that have ended by now.
func (s *stream) runs() (all []run) {
	s.t.Helper()
	for line := range strings.Lines(s.output.String()) {
		fields := strings.Fields(line)
		if !strings.HasSuffix(line, "\n") || len(fields) == 3 && fields[0] == "start" {
			continue
		}
		if len(fields) != 5 || fields[0] != "ran" {
			s.t.Fatalf("the stream said %q", s.output)
		}
		var n [3]int
		for i := range n {
			n[i], _ = strconv.Atoi(fields[2+i])
		}
		all = append(all, run{fields[1], n[0], time.Duration(n[1]) * time.Microsecond, n[2]})
	}
	return all
}

// started are the PIDs of the programs by their labels.
func (s *stream) started() map[string]int {
	pids := map[string]int{}
	for line := range strings.Lines(s.output.String()) {
		if fields := strings.Fields(line); len(fields) == 3 && strings.HasSuffix(line, "\n") {
			pids[fields[1]], _ = strconv.Atoi(fields[2])
		}
	}
	return pids
}

// goesOn waits until so many more programs have ended.
func (s *stream) goesOn(n int) {
	s.t.Helper()
	n += len(s.runs())
	eventually(s.t, "programs go on", func() error {
		if got := len(s.runs()); got < n {
			return fmt.Errorf("%d have ended, want %d", got, n)
		}
		return nil
	})
}

// finish lets no more programs start, waits for the rest, and checks that none
// failed or was held up longer than the limit.
func (s *stream) finish(limit time.Duration) []run {
	s.t.Helper()
	s.stdin.Close()
	if got := s.wait(); got != 0 {
		s.t.Fatalf("the stream ended with %d: %s", got, tail(s.output.String()))
	}
	all := s.runs()
	var longest time.Duration
	for _, r := range all {
		if r.status != 0 {
			s.t.Errorf("program %+v ended with %d", r, r.status)
		}
		longest = max(longest, r.took)
	}
	if longest > limit {
		s.t.Errorf("a program took %v, want %v at most", longest, limit)
	}
	s.t.Logf("%d programs, the longest took %v", len(all), longest)
	return all
}

// await waits for the end of a stream that has one.
func (s *stream) await() []run {
	s.t.Helper()
	if got := s.wait(); got != 0 {
		s.t.Fatalf("the stream ended with %d: %s", got, tail(s.output.String()))
	}
	return s.finish(patience)
}

// inPlace waits until the daemon has said so many times that its gate is in place.
func (d *daemon) inPlace(times int) {
	d.t.Helper()
	eventually(d.t, "the gate is in place", func() error {
		log := d.output.String()
		if n := strings.Count(log, "the gate is in place") + strings.Count(log, "the gate does not cover"); n < times {
			return fmt.Errorf("said %d times, want %d", n, times)
		}
		return nil
	})
}

// captured lets a user's process send a hit, and waits until the gate is in place.
func (d *daemon) captured(uid uint32) *sender {
	d.t.Helper()
	s := d.host.sender(uid)
	s.ask("first.badzone.test")
	d.trace(s.pid, "is there", nil)
	d.inPlace(1)
	return s
}

// tracesOf waits until all of the user's traces have ended, apart from that of the
// process that was there before, and returns them by PID.
func (d *daemon) tracesOf(uid uint32, before *sender) map[int][]event.Trace {
	d.t.Helper()
	by := map[int][]event.Trace{}
	eventually(d.t, "the traces have ended", func() error {
		clear(by)
		for _, tr := range d.traces("--user", fmt.Sprint(uid)) {
			if pid := tr.Process.PID; pid != before.pid {
				if !ended(tr) {
					return fmt.Errorf("that of %d has not", pid)
				}
				by[pid] = append(by[pid], tr)
			}
		}
		return nil
	})
	return by
}

// whole checks that a trace has all of the life of a program that asked for a name,
// and says so, and which program that was.
func whole(t *testing.T, tr event.Trace, label string) {
	t.Helper()
	complete(t, tr, label)
	// The arguments of an execve that did not have to wait cannot always be read in
	// time; then the path stands for them.
	if tr.Process.Executable != programs.offenderC || !strings.Contains(tr.Process.CommandLine, label) && tr.Process.CommandLine != programs.offenderC {
		t.Errorf("the trace of %s, found by %s, says that it was %s: %.99q", label, tr.Culprit.FoundBy, tr.Process.Executable, tr.Process.CommandLine)
	}
}

// complete checks that a trace has all of the life of a program that asked for a name,
// and says so.
func complete(t *testing.T, tr event.Trace, label string) {
	t.Helper()
	c := &tr.Culprit
	_, _, body := readTrace(t, tr.File.Path)
	if !asks(body, label) {
		t.Errorf("the trace of %s does not hold its query:\n%s", label, tail(body))
	}
	switch c.FoundBy {
	case event.FoundGate, event.FoundUID, event.FoundFork, event.FoundExec:
	default:
		t.Errorf("%s was found by %s", label, c.FoundBy)
	}
	if !c.FromStart || c.Truncated || c.Lost != 0 {
		t.Errorf("the trace of %s, found by %s, is not whole: from start %v, truncated %v, lost %d; age %v ms, attached after %v ms; its execve is in it: %v",
			label, c.FoundBy, c.FromStart, c.Truncated, c.Lost, c.AgeMS, c.AttachMS, strings.Contains(body, "execve("))
	}
	if tr.Process.ExitCode == nil || *tr.Process.ExitCode != 0 {
		t.Errorf("the trace of %s does not show that it ended with 0: %q", label, c.EndedBecause)
	}
}

// asks reports whether a trace shows that a query for the name was sent.
func asks(body, label string) bool {
	for line := range strings.Lines(body) {
		if strings.Contains(line, "sendto(") && strings.Contains(line, label+`\`) {
			return true
		}
	}
	return false
}

// unharmed checks that no process of the users is stopped or traced, and that
// programs can be started.
func (h *host) unharmed(uids ...uint32) {
	h.t.Helper()
	within(h.t, held, "no process is stopped or traced", func() error {
		for _, uid := range uids {
			if err := allFree(uid); err != nil {
				return err
			}
		}
		return nil
	})
	start := time.Now()
	for _, uid := range append(uids, 0) {
		if p := h.start(uid, "true"); p.wait() != 0 {
			h.t.Errorf("true as user %d ended with %d", uid, p.wait())
		}
	}
	if took := time.Since(start); took > held {
		h.t.Errorf("starting %d programs took %v", len(uids)+1, took)
	}
}

// allFree checks the processes of a user.
func allFree(uid uint32) error {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		var st syscall.Stat_t
		if syscall.Stat(dir, &st) != nil || st.Uid != uid {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(dir))
		if state, tracer := status(pid); tracer != 0 || state == 'T' || state == 't' {
			args, _ := os.ReadFile(dir + "/cmdline")
			return fmt.Errorf("process %d (%q) of user %d is in state %c and traced by %d", pid, args, uid, state, tracer)
		}
	}
	return nil
}

// marks counts the fanotify marks of a process that raise events.
func marks(t *testing.T, pid int) int {
	t.Helper()
	n, _ := testkit.FanotifyMarks(t, pid)
	return n
}

// After the first hit no program is too short-lived.
func TestGate(t *testing.T) {
	for name, workers := range map[string]int{"one by one": 1, "16 at a time": 16} {
		t.Run(name, func(t *testing.T) {
			// Not in parallel: gates of other tests come and go on the same file systems.
			h := newHost(t, "")
			d := h.hunt(gated)
			uid := newUID()
			s := d.captured(uid)
			const count = 200
			runs := h.stream(uid, count, workers, programs.offenderC, "-n", "LABEL.badzone.test").await()
			traces := d.tracesOf(uid, s)
			found := map[string]int{}
			for _, r := range runs {
				of := traces[r.pid]
				if len(of) != 1 {
					t.Errorf("%s has %d traces, want one", r.label, len(of))
					continue
				}
				whole(t, of[0], r.label)
				found[of[0].Culprit.FoundBy]++
			}
			t.Logf("found by %v", found)
			if len(runs) != count || len(traces) != count {
				t.Errorf("%d programs and %d traces, want %d", len(runs), len(traces), count)
			}
			d.capture(uid, "has missed nothing", func(c event.Capture) bool { return len(c.Culprit.Missed) == 0 && c.Culprit.GateFailures == 0 })
			h.unharmed()
			d.stop()
			h.unharmed(uid)
		})
	}
}

// Without the gate programs are found and traced as well, but not from the start.
func TestGateOff(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	d := h.hunt("capture: {gate: off, levels: [{hits: 1, processes: 1000, window: 10m}]}\n")
	uid := newUID()
	s := h.sender(uid)
	s.ask("first.badzone.test")
	d.trace(s.pid, "is there", nil)
	if pid := d.gate(); pid != 0 {
		t.Errorf("there is a gate, process %d", pid)
	}
	runs := h.stream(uid, 5, 1, programs.offenderC, "-n", "LABEL.goodzone.test", "-a", "500").await()
	traces := d.tracesOf(uid, s)
	for _, r := range runs {
		of := traces[r.pid]
		if len(of) != 1 {
			t.Errorf("%s has %d traces, want one", r.label, len(of))
			continue
		}
		// strace can be on it before its execve all the same, by its fork.
		_, _, body := readTrace(t, of[0].File.Path)
		if c := of[0].Culprit; c.FromStart && !strings.Contains(body, "execve(") || c.FoundBy == event.FoundGate {
			t.Errorf("the trace of %s says that it was found by %s, from start %v", r.label, c.FoundBy, c.FromStart)
		}
	}
	if len(traces) != len(runs) {
		t.Errorf("%d traces of %d programs", len(traces), len(runs))
	}
	d.stop()
	h.unharmed(uid)
}

// streams start programs of a captured user and of an innocent one, without end.
type streams struct {
	host                *host
	uid, innocent       uint32
	captured, innocents *stream
}

func (h *host) streams(uid uint32) streams {
	h.t.Helper()
	s := streams{host: h, uid: uid, innocent: newUID()}
	s.captured = h.stream(uid, 0, 3, programs.offenderC, "-n", "LABEL.goodzone.test")
	s.innocents = h.stream(s.innocent, 0, 1, programs.offenderC, "-n", "LABEL.goodzone.test")
	s.goOn()
	return s
}

// goOn waits until more programs of both have ended that started from now on.
func (s streams) goOn() {
	s.host.t.Helper()
	s.captured.goesOn(6)
	s.innocents.goesOn(3)
}

// finish ends the streams, none of whose programs may have been held up for long.
func (s streams) finish() {
	s.host.t.Helper()
	s.captured.finish(held)
	s.innocents.finish(held)
	s.host.unharmed(s.innocent)
}

// nextWhole checks that the programs that start now are traced from the start again.
func (d *daemon) nextWhole(t *testing.T, uid uint32) {
	t.Helper()
	runs := d.host.stream(uid, 10, 1, programs.offenderC, "-n", "LABEL.nextzone.test").await()
	for _, r := range runs {
		whole(t, d.trace(r.pid, "has ended", ended), r.label)
	}
}

// A daemon that is killed at any instant leaves nobody held.
func TestGateDaemonKilled(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	d := h.hunt(quick)
	uid := newUID()
	s := d.captured(uid)
	all := h.streams(uid)
	d.signal(syscall.SIGKILL)
	d.wait()
	all.goOn()
	d.gone()
	all.finish()
	h.unharmed(uid)
	free(t, s.process)
}

// Nor does one that hangs: programs go on within the deadline. When it goes on, so
// does the hunt.
func TestGateDaemonStopped(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	d := h.hunt(quick)
	uid := newUID()
	d.captured(uid)
	innocent := newUID()
	d.signal(syscall.SIGSTOP)
	t.Cleanup(func() { syscall.Kill(d.pid, syscall.SIGCONT) })
	// Those whose strace has started meanwhile wait for whom the strace's pipe is
	// read by, so the captured user's programs start now, not before.
	captured := h.stream(uid, 0, 3, programs.offenderC, "-n", "LABEL.goodzone.test")
	innocents := h.stream(innocent, 0, 1, programs.offenderC, "-n", "LABEL.goodzone.test")
	captured.goesOn(30)
	innocents.goesOn(10)
	captured.finish(held)
	innocents.finish(held)
	if err := allFree(innocent); err != nil {
		t.Error(err)
	}
	d.signal(syscall.SIGCONT)
	d.nextWhole(t, uid)
	d.stop()
	h.unharmed(uid, innocent)
}

// What was let go because the daemon hung was not traced from the start, though the
// daemon learns later that it was held.
func TestGateDaemonStoppedSaysSo(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	d := h.hunt(strings.Replace(gated, "5s", "1s", 1))
	uid := newUID()
	d.captured(uid)
	d.signal(syscall.SIGSTOP)
	t.Cleanup(func() { syscall.Kill(d.pid, syscall.SIGCONT) })
	// Four seconds of life, of which it is held for the first.
	lives := h.stream(uid, 1, 1, programs.offenderC, "-n", "LABEL.goodzone.test", "-a", "4000")
	eventually(t, "the program is let go", func() error {
		for _, pid := range lives.started() {
			if exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); exe == programs.offenderC {
				return nil
			}
		}
		return errors.New("it is not")
	})
	d.signal(syscall.SIGCONT)
	runs := lives.await()
	for _, r := range runs {
		if tr := d.trace(r.pid, "has ended", ended); tr.Culprit.FromStart {
			_, _, body := readTrace(t, tr.File.Path)
			t.Errorf("the trace of %s, found by %s, says that it is from the start; age %v ms; it holds the query: %v\n%s",
				r.label, tr.Culprit.FoundBy, tr.Culprit.AgeMS, asks(body, r.label), body)
		}
	}
	d.stop()
	h.unharmed(uid)
}

// A gate that is killed, or that hangs, is replaced; nobody is held up for long, and
// the capture says what happened.
func TestGateFails(t *testing.T) {
	for name, sig := range map[string]syscall.Signal{"killed": syscall.SIGKILL, "stopped": syscall.SIGSTOP} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, "")
			d := h.hunt(quick)
			uid := newUID()
			d.captured(uid)
			all := h.streams(uid)
			old := d.gate()
			if old == 0 {
				t.Fatal("there is no gate")
			}
			if err := syscall.Kill(old, sig); err != nil {
				t.Fatal(err)
			}
			all.goOn() // while there is no gate
			d.awaitLog("the gate failed")
			d.inPlace(2)
			if pid := d.gate(); pid == 0 || pid == old {
				t.Errorf("the gate is process %d, before it was %d", pid, old)
			}
			d.capture(uid, "counts that the gate failed", func(c event.Capture) bool { return c.Culprit.GateFailures == 1 })
			all.goOn()
			all.finish()
			d.nextWhole(t, uid)
			d.stop()
			h.unharmed(all.uid, all.innocent)
		})
	}
}

// A gate that was stopped while nothing was captured fails when it is wanted. The
// daemon notices, and stops in good order.
func TestGateStoppedBefore(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	d := h.hunt(quick)
	eventually(t, "there is a gate", func() error {
		if d.gate() == 0 {
			return errors.New("there is none")
		}
		return nil
	})
	if err := syscall.Kill(d.gate(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	uid := newUID()
	s := h.sender(uid)
	s.ask("first.badzone.test")
	d.trace(s.pid, "is there", nil)
	d.awaitLog("the gate failed")
	d.inPlace(1)
	d.nextWhole(t, uid)
	d.stop()
	h.unharmed(uid)
}

// A strace that is gone, or that hangs, holds nobody up.
func TestGateWithoutStrace(t *testing.T) {
	for name, breaks := range map[string]string{
		"gone":  "rm %s",
		"hangs": "touch %s.hangs",
		"stops": "touch %s.stops",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, "")
			wrapper := filepath.Join(h.dir, "strace")
			h.write("strace", fmt.Sprintf(`#!/bin/sh
[ -e %[1]s.hangs ] && sleep 10
[ -e %[1]s.stops ] && kill -STOP $$
PATH=/usr/bin
exec strace "$@"
`, wrapper))
			config, evidence := h.configure(quick)
			d := h.huntWith(config, evidence, "PATH="+h.dir+":"+os.Getenv("PATH"))
			uid := newUID()
			d.captured(uid)
			h.Must(t, "sh", "-c", fmt.Sprintf(breaks, wrapper))
			all := h.streams(uid)
			all.goOn()
			all.finish()
			d.stop()
			c := d.capture(uid, "has missed programs", func(c event.Capture) bool { return len(c.Culprit.Missed) > 0 })
			t.Logf("missed %v", c.Culprit.Missed)
			h.unharmed(all.uid, all.innocent)
		})
	}
}

const crowdScript = `
import os, sys
uid, count = map(int, sys.argv[1:3])
r, w = os.pipe()
pids = []
for i in range(count):
    pid = os.fork()
    if pid == 0:
        try:
            os.close(w)
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.read(r, 1)
            os.setresuid(uid, uid, uid)
            os.execv(sys.argv[3], [a.replace("LABEL", "p%du%d" % (i, uid)) for a in sys.argv[3:]])
        finally:
            os._exit(99)
    pids.append(pid)
os.close(r)
os.close(w)
print("%d" % sum(os.waitpid(pid, 0)[1] != 0 for pid in pids))
`

// Five hundred programs at once: as many are traced as straces are allowed, the
// others are counted, and all of them end.
func TestGateCrowd(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	d := h.hunt(strings.Replace(gated, "64", "8", 1))
	uid := newUID()
	s := d.captured(uid)
	const count = 500
	p := h.start(0, "python3", "-I", "-S", h.write("crowd.py", crowdScript), fmt.Sprint(uid), fmt.Sprint(count), programs.offenderC, "-n", "LABEL.goodzone.test")
	if got := p.wait(); got != 0 || p.output.String() != "0\n" {
		t.Errorf("the crowd ended with %d, and so many programs failed: %s", got, p.output)
	}
	var traces map[int][]event.Trace
	missed, crowded := 0, 0
	c := d.capture(uid, "counts every program", func(c event.Capture) bool {
		traces, missed, crowded = d.tracesOf(uid, s), 0, 0
		for code, n := range c.Culprit.Missed {
			missed += n
			if code == event.UntracedConcurrent {
				crowded = n
			}
		}
		return missed+len(traces) == count
	})
	t.Logf("%d traced, missed %v", len(traces), c.Culprit.Missed)
	if missed+len(traces) != count {
		t.Errorf("%d traced and %d missed are not %d: %v", len(traces), missed, count, c.Culprit.Missed)
	}
	if crowded == 0 || len(traces) == 0 {
		t.Errorf("%d traced, and %d missed because of capture.concurrent; want some of both", len(traces), crowded)
	}
	h.unharmed()
	d.stop()
	h.unharmed(uid)
}

// Straces go before others only until they are on their process.
func TestStraceIsNice(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	d := h.hunt(gated)
	s := d.captured(newUID())
	traced(t, s.process)
	_, strace := status(s.pid)
	eventually(t, "the strace has the daemon's nice value", func() error {
		ours, err1 := syscall.Getpriority(syscall.PRIO_PROCESS, d.pid)
		its, err2 := syscall.Getpriority(syscall.PRIO_PROCESS, strace)
		if err := errors.Join(err1, err2); err != nil || its != ours {
			return fmt.Errorf("it has %d, the daemon %d: %v", 20-its, 20-ours, err)
		}
		return nil
	})
	d.stop()
}

// While nothing is captured nobody waits for the gate.
func TestGateIdle(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	d := h.hunt("capture: {linger: 1s, levels: [{hits: 1, processes: 1000, window: 2s}]}\n")
	eventually(t, "the gate is up, without marks", func() error {
		if d.gate() == 0 || !strings.Contains(fdsOf(d.gate()), "fanotify") {
			return errors.New("it is not")
		}
		return nil
	})
	if n := marks(t, d.gate()); n != 0 {
		t.Errorf("the gate has %d marks before the first hit", n)
	}
	for round := range 2 {
		s := h.sender(newUID())
		s.ask(fmt.Sprintf("q%d.badzone.test", round))
		eventually(t, "the gate has marks", func() error {
			if marks(t, d.gate()) == 0 {
				return errors.New("it has none")
			}
			return nil
		})
		eventually(t, "the marks are gone", func() error {
			if n := marks(t, d.gate()); n > 0 {
				return fmt.Errorf("there are %d", n)
			}
			return nil
		})
		free(t, s.process)
	}
	d.stop()
}

func fdsOf(pid int) (all string) {
	fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, fd := range fds {
		to, _ := os.Readlink(fd)
		all += to + "\n"
	}
	return all
}

// A program that is never traced does not wait for the gate's deadline.
func TestGateNeverExecutables(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	never := filepath.Join(h.dir, "never")
	h.Must(t, "cp", programs.offenderC, never)
	d := h.hunt(gated + "guard: {never_executables: [" + h.dir + "/nev*]}\n")
	uid := newUID()
	s := d.captured(uid)
	runs := h.stream(uid, 10, 1, never, "-n", "LABEL.goodzone.test", "-a", "20").await()
	for _, r := range runs {
		if r.took > 4*time.Second {
			t.Errorf("%s took %v", r.label, r.took)
		}
	}
	other := h.stream(uid, 1, 1, programs.offenderC, "-n", "LABEL.goodzone.test").await()
	whole(t, d.trace(other[0].pid, "has ended", ended), other[0].label)
	for pid, of := range d.tracesOf(uid, s) {
		for _, tr := range of {
			if _, _, body := readTrace(t, tr.File.Path); pid != other[0].pid && strings.Contains(body, "sendto(") {
				t.Errorf("there is a trace of %d, found by %s, which ended because %s:\n%s", pid, tr.Culprit.FoundBy, tr.Culprit.EndedBecause, tail(body))
			}
		}
	}
	d.stop()
	h.unharmed(uid)
}

// Captures by hand use the gate as well.
func TestGateByHand(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	uid := newUID()
	h.idle(uid)
	out := filepath.Join(h.dir, "out")
	config, _ := h.configure(gated)
	p := h.start(0, programs.culprit, "trace", "--uid", fmt.Sprint(uid), "--number", "1000", "--for", "10m", "--out", out, "-c", config)
	printed(t, p, 1)
	gate := &daemon{process: p, host: h}
	eventually(t, "the gate has marks", func() error {
		if pid := gate.gate(); pid == 0 || !strings.Contains(fdsOf(pid), "fanotify") || marks(t, pid) == 0 {
			return errors.New("it has not")
		}
		return nil
	})
	const count = 20
	runs := h.stream(uid, count, 1, programs.offenderC, "-n", "LABEL.goodzone.test").await()
	var missing []string
	for _, r := range runs {
		for limit := time.Now().Add(5 * time.Second); !strings.Contains(p.output.String(), fmt.Sprintf("process %d ", r.pid)); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(limit) {
				missing = append(missing, fmt.Sprintf("%+v", r))
				break
			}
		}
	}
	p.signal(syscall.SIGINT)
	if got := p.wait(); got != 0 {
		t.Errorf("it ended with %d, want 0", got)
	}
	if missing != nil || t.Failed() {
		t.Errorf("it has not told the end of %v:\n%s", missing, p.output)
	}
	files, err := filepath.Glob(out + "/*")
	if err != nil || len(files) != count+1 {
		t.Errorf("the directory holds %d files, want %d", len(files), count+1)
	}
	bodies := map[string]string{}
	for _, file := range files {
		head, _, body := readTrace(t, file)
		pid, _, _ := strings.Cut(head["process"], ",")
		bodies[pid] = body
	}
	for _, r := range runs {
		if !asks(bodies[fmt.Sprint(r.pid)], r.label) {
			t.Errorf("no trace holds the query of %s:\n%s", r.label, bodies[fmt.Sprint(r.pid)])
		}
	}
	h.unharmed(uid)
}

// The last program that a capture may trace is held like any other: the gate is not
// let go of between the moment the program is found and the moment it is held.
func TestGateLastProgram(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	config, _ := h.configure(gated)
	for round := range 8 {
		uid := newUID()
		p := h.start(0, programs.culprit, "trace", "--uid", fmt.Sprint(uid), "--number", "1", "--for", "10m", "--out", filepath.Join(h.dir, fmt.Sprint("out", round)), "-c", config)
		gate := &daemon{process: p, host: h}
		eventually(t, "the gate has marks", func() error {
			if pid := gate.gate(); pid == 0 || !strings.Contains(fdsOf(pid), "fanotify") || marks(t, pid) == 0 {
				return errors.New("it has not")
			}
			return nil
		})
		runs := h.stream(uid, 1, 1, programs.offenderC, "-n", "LABEL.goodzone.test").await()
		select {
		case <-p.done:
		case <-time.After(5 * time.Second):
			p.signal(syscall.SIGINT)
			p.wait()
		}
		if said := p.output.String(); !strings.Contains(said, "its one process was used up") || !strings.Contains(said, fmt.Sprintf("process %d ", runs[0].pid)) {
			t.Fatalf("round %d: the program %+v was not traced:\n%s", round, runs[0], said)
		}
	}
}
