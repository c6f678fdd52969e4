package gate

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"culprit/internal/event"
	"culprit/test/harness"
)

// After the first hit no program is too short-lived.
func TestGate(t *testing.T) {
	eachGate(t, func(t *testing.T, by func(string) string) { testGate(t, by, 1) })
	eachGate(t, func(t *testing.T, by func(string) string) { testGate(t, by, 16) })
}

// eachGate tests each way of holding programs.
func eachGate(t *testing.T, f func(t *testing.T, by func(string) string)) {
	for name, by := range map[string]func(string) string{"fanotify": harness.ByFanotify, "bpf": harness.ByBPF} {
		t.Run(name, func(t *testing.T) { f(t, by) })
	}
}

func testGate(t *testing.T, by func(string) string, workers int) {
	// Not in parallel: gates of other tests come and go on the same file systems.
	h := harness.NewHost(t, "")
	d := h.Hunt(by(harness.Gated))
	uid := harness.NewUID()
	s := d.Captured(uid)
	const count = 200
	runs := h.Stream(uid, count, workers, harness.Programs.OffenderC, "-n", "LABEL.badzone.test").Await()
	traces := d.TracesOf(uid, s, count)
	found := map[string]int{}
	for _, r := range runs {
		of := traces[r.PID]
		if len(of) != 1 {
			t.Errorf("%s has %d traces, want one", r.Label, len(of))
			continue
		}
		harness.Whole(t, of[0], r.Label)
		found[of[0].Culprit.FoundBy]++
	}
	t.Logf("found by %v", found)
	if len(runs) != count || len(traces) != count {
		t.Errorf("%d programs and %d traces, want %d", len(runs), len(traces), count)
	}
	d.Capture(uid, "has missed nothing", func(c event.Capture) bool { return len(c.Culprit.Missed) == 0 && c.Culprit.GateFailures == 0 })
	h.Unharmed()
	d.Stop()
	h.Unharmed(uid)
}

// Without the gate programs are found and traced as well, but not from the start.
func TestGateOff(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	d := h.Hunt("capture: {gate: off, levels: [{hits: 1, processes: 1000, window: 10m}]}\n")
	uid := harness.NewUID()
	s := h.Sender(uid)
	s.Ask("first.badzone.test")
	d.Trace(s.PID, "is there", nil)
	if pid := d.Gate(); pid != 0 {
		t.Errorf("there is a gate, process %d", pid)
	}
	runs := h.Stream(uid, 5, 1, harness.Programs.OffenderC, "-n", "LABEL.goodzone.test", "-a", "500").Await()
	traces := d.TracesOf(uid, s, len(runs))
	for _, r := range runs {
		of := traces[r.PID]
		if len(of) != 1 {
			t.Errorf("%s has %d traces, want one", r.Label, len(of))
			continue
		}
		// strace can be on it before its execve all the same, by its fork.
		_, _, body := harness.ReadTrace(t, of[0].File.Path)
		if c := of[0].Culprit; c.FromStart && !strings.Contains(body, "execve(") || c.FoundBy == event.FoundGate {
			t.Errorf("the trace of %s says that it was found by %s, from start %v", r.Label, c.FoundBy, c.FromStart)
		}
	}
	if len(traces) != len(runs) {
		t.Errorf("%d traces of %d programs", len(traces), len(runs))
	}
	d.Stop()
	h.Unharmed(uid)
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
func TestGateCrowd(t *testing.T) { eachGate(t, testCrowd) }

func testCrowd(t *testing.T, by func(string) string) {
	t.Parallel()
	h := harness.NewHost(t, "")
	d := h.Hunt(by(strings.Replace(harness.Gated, "64", "8", 1)))
	uid := harness.NewUID()
	s := d.Captured(uid)
	const count = 500
	p := h.StartAs(0, "python3", "-I", "-S", h.Write("crowd.py", crowdScript), fmt.Sprint(uid), fmt.Sprint(count), harness.Programs.OffenderC, "-n", "LABEL.goodzone.test")
	if got := p.Wait(); got != 0 || p.Output.String() != "0\n" {
		t.Errorf("the crowd ended with %d, and so many programs failed: %s", got, p.Output)
	}
	var traces map[int][]event.Trace
	missed, crowded := 0, 0
	c := d.Capture(uid, "counts every program", func(c event.Capture) bool {
		traces, missed, crowded = d.TracesOf(uid, s, 0), 0, 0
		for code, n := range c.Culprit.Missed {
			missed += n
			if code == event.UntracedConcurrent {
				crowded = n
			}
		}
		// A busy machine missed its watchdog: some programs had ended before anybody could look.
		gone := c.Culprit.GateFailures > 0 && missed+c.Culprit.Unseen+len(traces) == count
		return gone || missed+len(traces) == count
	})
	t.Logf("%d traced, missed %v", len(traces), c.Culprit.Missed)
	if missed+len(traces) != count && c.Culprit.GateFailures == 0 {
		t.Errorf("%d traced and %d missed are not %d: %v", len(traces), missed, count, c.Culprit.Missed)
	}
	if crowded == 0 || len(traces) == 0 {
		t.Errorf("%d traced, and %d missed because of capture.concurrent; want some of both", len(traces), crowded)
	}
	h.Unharmed()
	d.Stop()
	h.Unharmed(uid)
}

// Straces go before others only until they are on their process.
func TestStraceIsNice(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	d := h.Hunt(harness.Gated)
	s := d.Captured(harness.NewUID())
	harness.Traced(t, s.Process)
	_, strace := harness.Status(s.PID)
	harness.Eventually(t, "the strace has the daemon's nice value", func() error {
		ours, err1 := syscall.Getpriority(syscall.PRIO_PROCESS, d.PID)
		its, err2 := syscall.Getpriority(syscall.PRIO_PROCESS, strace)
		if err := errors.Join(err1, err2); err != nil || its != ours {
			return fmt.Errorf("it has %d, the daemon %d: %v", 20-its, 20-ours, err)
		}
		return nil
	})
	d.Stop()
}

// A program that is never traced does not wait for the gate's deadline. If its process was traced before it
// executed the program, strace detaches, a moment later.
func TestGateNeverExecutables(t *testing.T) {
	eachGate(t, testNeverExecutables)
}

func testNeverExecutables(t *testing.T, by func(string) string) {
	t.Parallel()
	h := harness.NewHost(t, "")
	never := filepath.Join(h.Dir, "never")
	h.Must(t, "cp", harness.Programs.OffenderC, never)
	d := h.Hunt(by(harness.Gated) + "guard: {never_executables: [" + h.Dir + "/nev*]}\n")
	uid := harness.NewUID()
	s := d.Captured(uid)
	runs := h.Stream(uid, 10, 1, never, "-n", "LABEL.goodzone.test", "-a", "20").Await()
	for _, r := range runs {
		if r.Took > 4*time.Second {
			t.Errorf("%s took %v", r.Label, r.Took)
		}
	}
	other := h.Stream(uid, 1, 1, harness.Programs.OffenderC, "-n", "LABEL.goodzone.test").Await()
	harness.Whole(t, d.Trace(other[0].PID, "has ended", harness.Ended), other[0].Label)
	for pid, of := range d.TracesOf(uid, s, 1) {
		for _, tr := range of {
			_, _, body := harness.ReadTrace(t, tr.File.Path)
			// Strace was on the process, from its fork on or since a look at /proc, before that executed the program.
			why := tr.Culprit.EndedBecause
			before := tr.Culprit.FoundBy == event.FoundUID || strings.Contains(body, `execve("`+never+`"`)
			if before && why != nil && why.Code == event.EndedNeverExecutables {
				continue
			}
			if pid != other[0].PID && strings.Contains(body, "sendto(") {
				t.Errorf("there is a trace of %d, found by %s, which ended because %s:\n%s", pid, tr.Culprit.FoundBy, tr.Culprit.EndedBecause, harness.Tail(body))
			}
		}
	}
	d.Stop()
	h.Unharmed(uid)
}
