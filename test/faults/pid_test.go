package faults

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"culprit/internal/event"
	"culprit/test/harness"
)

// reuseScript starts programs of a user one after the other, all under the PID that the
// first one happened to get (clone3 with set_tid, since Linux 5.5).
const reuseScript = `
import ctypes, errno, os, sys, time
uid, count = map(int, sys.argv[1:3])
libc = ctypes.CDLL(None, use_errno=True)
SYS_clone3, SIGCHLD = 435, 17
def fork_as(pid):
    tid = ctypes.c_int(pid)
    args = (ctypes.c_uint64 * 11)()
    args[4], args[8], args[9] = SIGCHLD, ctypes.addressof(tid), 1
    for _ in range(1000):
        got = libc.syscall(SYS_clone3, args, ctypes.sizeof(args))
        if got >= 0:
            return got
        if ctypes.get_errno() != errno.EEXIST:
            raise OSError(ctypes.get_errno(), "clone3")
        time.sleep(0.01) # somebody has it for now
    raise OSError("the PID %d stays in use" % pid)
first = 0
for i in range(count):
    label = "p%du%d" % (i, uid)
    pid = fork_as(first) if first else os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            os.execv(sys.argv[3], [a.replace("LABEL", label) for a in sys.argv[3:]] + ["-c", str(1 + i % 3)])
        finally:
            os._exit(99)
    first = pid
    _, status = os.waitpid(pid, 0)
    print(label, pid, os.waitstatus_to_exitcode(status), flush=True)
    time.sleep(0.02) # two ticks: what has the same PID and start is the same process to all of /proc
`

// Processes that have the same PID one after the other are not taken for each other: each
// has a trace of its own from its first instruction, is listed as a program of its own, and
// is named by the proof of its own packets.
func TestPIDReused(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	d := h.Hunt(harness.Gated)
	uid := harness.NewUID()
	before := d.Captured(uid)
	const count = 20
	p := h.StartAs(0, "python3", "-I", "-S", h.Write("reuse.py", reuseScript), fmt.Sprint(uid), fmt.Sprint(count), harness.Programs.OffenderC, "-n", "LABEL.badzone.test", "-a", "20")
	if got := p.Wait(); got != 0 {
		t.Fatalf("it ended with %d: %s", got, p.Output)
	}
	pids := map[int]bool{}
	for line := range strings.Lines(p.Output.String()) {
		var label string
		var pid, status int
		if _, err := fmt.Sscan(line, &label, &pid, &status); err != nil || status != 0 {
			t.Fatalf("it said %q", line)
		}
		pids[pid] = true
	}
	if len(pids) != 1 {
		t.Fatalf("the PIDs are %v, want one", pids)
	}
	byLabel := map[string]event.Trace{}
	lives := map[string]bool{}
	for _, of := range d.TracesOf(uid, before, 0) {
		for _, tr := range of {
			label, _, _ := strings.Cut(tr.Process.CommandLine[strings.Index(tr.Process.CommandLine, "-n ")+3:], ".")
			harness.Whole(t, tr, label)
			byLabel[label] = tr
			lives[tr.Process.EntityID] = true
		}
	}
	if len(byLabel) != count || len(lives) != count {
		t.Fatalf("%d traces of %d processes, want %d", len(byLabel), len(lives), count)
	}
	for i := range count {
		label := fmt.Sprintf("p%du%d", i, uid)
		tr := byLabel[label]
		harness.Eventually(t, "each hit is proven by the trace of its own process", func() error {
			seen := 0
			for _, hit := range d.Hits("--user", fmt.Sprint(uid)) {
				if hit.DNS.Question.Name != label+".badzone.test" {
					continue
				}
				seen++
				if c := hit.Culprit.Proof; c == nil || c.Trace.ID != tr.Event.ID {
					return fmt.Errorf("a hit of %s has the proof %+v, want one in trace %s", label, c, tr.Event.ID)
				}
				if hit.Process.EntityID != tr.Process.EntityID {
					return fmt.Errorf("a hit of %s is of process %s, want %s", label, hit.Process.EntityID, tr.Process.EntityID)
				}
			}
			if seen == 0 {
				return errors.New("there is none")
			}
			return nil
		})
	}
	d.Capture(uid, "has missed nothing, and counts each as a program", func(c event.Capture) bool {
		return len(c.Culprit.Missed) == 0 && c.Culprit.Programs >= count
	})
	d.Stop()
	h.Unharmed(uid)
}
