package faults

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"culprit/internal/event"
	"culprit/internal/words"
	"culprit/test/harness"
)

// A strace that is killed, or stopped, in the middle of its work does no harm: its
// processes go on untraced, its trace says why it ended and is kept, and the capture
// goes on.
func TestStraceFails(t *testing.T) {
	for _, c := range []struct {
		name    string
		signal  syscall.Signal
		because string
	}{
		{"killed", syscall.SIGKILL, "strace was killed (killed)"},
		// It holds up its processes until that is noticed.
		{"stopped", syscall.SIGSTOP, "detached: a signal stopped strace; culprit killed it so that the process goes on"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := harness.NewHost(t, "")
			d := h.Hunt(harness.Gated)
			uid := harness.NewUID()
			other := d.Captured(uid)
			s := h.Sender(uid)
			child := s.Spawn(`python3 -I -S -c "while 1: __import__('os').getppid()"`) // system calls without end
			s.Ask("before.badzone.test")
			d.Trace(s.PID, "is there", nil)
			tracedPID(t, child)
			_, strace := harness.Status(s.PID)
			if err := syscall.Kill(strace, c.signal); err != nil {
				t.Fatal(err)
			}

			tr := d.Trace(s.PID, "has ended", harness.Ended)
			if words.TraceEnded(tr.Culprit.EndedBecause) != c.because || tr.Process.ExitCode != nil {
				t.Errorf("the trace ended because %q with the exit code %v, want %q and none", tr.Culprit.EndedBecause, tr.Process.ExitCode, c.because)
			}
			harness.Free(t, s.Process)
			harness.Eventually(t, "the child goes on untraced", func() error { return harness.IsFree(child) })
			head, foot, body := harness.ReadTrace(t, tr.File.Path)
			if head["hit"] == "" || foot["ended"] != c.because || foot["exit status"] != "not seen" || !strings.Contains(body, `before\7badzone`) {
				t.Errorf("the trace has the header %v, the footer %v and ends with\n%s", head, foot, harness.Tail(body))
			}
			if shown := h.Culprit("show", "--evidence", d.Evidence, tr.Event.ID).Must(t); !strings.Contains(shown, c.because) {
				t.Errorf("culprit show does not say why the trace ended:\n%s", shown)
			}

			tracedPID(t, s.Spawn("sleep 1000"))
			harness.Free(t, s.Process)
			harness.Traced(t, other.Process) // whose strace is another
			other.Ask("after.badzone.test")
			d.Hit("after.badzone.test")
			tracesOn(t, d, uid)
			lean(d)
			d.Stop()
			h.Unharmed(uid)
			d.Proven(t, "before.badzone.test")
			d.Proven(t, "after.badzone.test")
		})
	}
}

// A strace that is removed while we hunt: what starts is missed with that reason, once
// each, and does not wait for the gate's deadline. When strace is back, so is tracing.
func TestStraceMissing(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	wrapper := h.Write("strace", "#!/bin/sh\nPATH=/usr/bin\nexec strace \"$@\"\n")
	config, evidence := h.Configure(harness.Gated)
	d := h.HuntWith(config, evidence, "PATH="+h.Dir+":"+os.Getenv("PATH"))
	uid := harness.NewUID()
	d.Captured(uid)
	if err := os.Rename(wrapper, wrapper+".gone"); err != nil {
		t.Fatal(err)
	}
	const count = 10
	for _, r := range h.Stream(uid, count, 5, harness.Programs.OffenderC, "-n", "LABEL.badzone.test", "-a", "500").Await() {
		if r.Took > 4*time.Second {
			t.Errorf("%s took %v: it waited for the gate's deadline of 5 s", r.Label, r.Took)
		}
	}
	const reason = event.UntracedNotStarted
	c := d.Capture(uid, "has missed the programs", func(c event.Capture) bool { return c.Culprit.Missed[reason] == count })
	if e := c.Culprit.Examples; len(e) == 0 || e[0].Reason.Code != reason || !strings.Contains(e[0].Reason.Detail, "no such file") {
		t.Errorf("the missed programs are described as %+v, want a detail that says that the file is missing", e)
	}
	if len(c.Culprit.Missed) != 1 || c.Culprit.Traces != 1 {
		t.Errorf("the capture is %+v, want one trace and %d missed", c.Culprit, count)
	}
	// A process that stays is not tried again and again.
	h.Idle(uid)
	d.Capture(uid, "has missed one more", func(c event.Capture) bool { return c.Culprit.Missed[reason] == count+1 })
	before := cpu(t, d.PID)
	time.Sleep(2 * time.Second)
	if used := cpu(t, d.PID) - before; used > 500*time.Millisecond {
		t.Errorf("the daemon used %v of CPU within two seconds in which nothing happened", used)
	}
	if n := strings.Count(d.Output.String(), `"because":"strace could not be started`); n != 1 {
		t.Errorf("the log says %d times that strace could not be started, want once", n)
	}

	if err := os.Rename(wrapper+".gone", wrapper); err != nil {
		t.Fatal(err)
	}
	tracesOn(t, d, uid)
	lean(d)
	d.Stop()
	h.Unharmed(uid)
}

// cpu is the CPU time that a process has used.
func cpu(t testing.TB, pid int) time.Duration {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("/proc", fmt.Sprint(pid), "stat"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), ") ")
	var skip string
	var user, system int64
	if _, err := fmt.Sscan(rest, &skip, &skip, &skip, &skip, &skip, &skip, &skip, &skip, &skip, &skip, &skip, &user, &system); err != nil || !ok {
		t.Fatal(errors.Join(err, fmt.Errorf("read %q", text)))
	}
	const tick = 10 * time.Millisecond // USER_HZ
	return time.Duration(user+system) * tick
}
