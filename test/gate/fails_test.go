package gate

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"culprit/internal/event"
	"culprit/test/harness"
)

// streams start programs of a captured user and of an innocent one, without end.
type streams struct {
	host                *harness.Host
	uid, innocent       uint32
	captured, innocents *harness.Stream
}

func startStreams(h *harness.Host, uid uint32) streams {
	h.T.Helper()
	s := streams{host: h, uid: uid, innocent: harness.NewUID()}
	s.captured = h.Stream(uid, 0, 3, harness.Programs.OffenderC, "-n", "LABEL.goodzone.test")
	s.innocents = h.Stream(s.innocent, 0, 1, harness.Programs.OffenderC, "-n", "LABEL.goodzone.test")
	s.goOn()
	return s
}

// goOn waits until more programs of both have ended that started from now on.
func (s streams) goOn() {
	s.host.T.Helper()
	s.captured.GoesOn(6)
	s.innocents.GoesOn(3)
}

// finish ends the streams, none of whose programs may have been held up for long.
func (s streams) finish() {
	s.host.T.Helper()
	s.captured.Finish(harness.Held)
	s.innocents.Finish(harness.Held)
	s.host.Unharmed(s.innocent)
}

// A daemon that is killed at any instant leaves nobody held.
func TestGateDaemonKilled(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	d := h.Hunt(harness.ByFanotify(harness.Quick))
	uid := harness.NewUID()
	s := d.Captured(uid)
	all := startStreams(h, uid)
	d.Signal(syscall.SIGKILL)
	d.Wait()
	all.goOn()
	d.Gone()
	all.finish()
	h.Unharmed(uid)
	harness.Free(t, s.Process)
}

// Nor does one that hangs: programs go on within the deadline. When it goes on, so
// does the hunt.
func TestGateDaemonStopped(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	d := h.Hunt(harness.ByFanotify(harness.Quick))
	uid := harness.NewUID()
	d.Captured(uid)
	innocent := harness.NewUID()
	d.Signal(syscall.SIGSTOP)
	t.Cleanup(func() { syscall.Kill(d.PID, syscall.SIGCONT) })
	// Those whose strace has started meanwhile wait for whom the strace's pipe is
	// read by, so the captured user's programs start now, not before.
	captured := h.Stream(uid, 0, 3, harness.Programs.OffenderC, "-n", "LABEL.goodzone.test")
	innocents := h.Stream(innocent, 0, 1, harness.Programs.OffenderC, "-n", "LABEL.goodzone.test")
	captured.GoesOn(30)
	innocents.GoesOn(10)
	captured.Finish(harness.Held)
	innocents.Finish(harness.Held)
	if err := harness.AllFree(innocent); err != nil {
		t.Error(err)
	}
	d.Signal(syscall.SIGCONT)
	d.NextWhole(t, uid)
	d.Stop()
	h.Unharmed(uid, innocent)
}

// What was let go because the daemon hung was not traced from the start, though the
// daemon learns later that it was held.
func TestGateDaemonStoppedSaysSo(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	d := h.Hunt(harness.ByFanotify(strings.Replace(harness.Gated, "5s", "1s", 1)))
	uid := harness.NewUID()
	d.Captured(uid)
	d.Signal(syscall.SIGSTOP)
	t.Cleanup(func() { syscall.Kill(d.PID, syscall.SIGCONT) })
	// Four seconds of life, of which it is held for the first.
	lives := h.Stream(uid, 1, 1, harness.Programs.OffenderC, "-n", "LABEL.goodzone.test", "-a", "4000")
	harness.Eventually(t, "the program is let go", func() error {
		for _, pid := range lives.Started() {
			if exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); exe == harness.Programs.OffenderC {
				return nil
			}
		}
		return errors.New("it is not")
	})
	d.Signal(syscall.SIGCONT)
	runs := lives.Await()
	for _, r := range runs {
		if tr := d.Trace(r.PID, "has ended", harness.Ended); tr.Culprit.FromStart {
			_, _, body := harness.ReadTrace(t, tr.File.Path)
			t.Errorf("the trace of %s, found by %s, says that it is from the start; age %v ms; it holds the query: %v\n%s",
				r.Label, tr.Culprit.FoundBy, tr.Culprit.AgeMS, harness.Asks(body, r.Label), body)
		}
	}
	d.Stop()
	h.Unharmed(uid)
}

// A gate that is killed, or that hangs, is replaced; nobody is held up for long, and
// the capture says what happened.
func TestGateFails(t *testing.T) {
	for name, sig := range map[string]syscall.Signal{"killed": syscall.SIGKILL, "stopped": syscall.SIGSTOP} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := harness.NewHost(t, "")
			d := h.Hunt(harness.ByFanotify(harness.Quick))
			uid := harness.NewUID()
			d.Captured(uid)
			all := startStreams(h, uid)
			old := d.Gate()
			if old == 0 {
				t.Fatal("there is no gate")
			}
			if err := syscall.Kill(old, sig); err != nil {
				t.Fatal(err)
			}
			all.goOn() // while there is no gate
			d.AwaitLog("the gate failed")
			d.InPlace(2)
			if pid := d.Gate(); pid == 0 || pid == old {
				t.Errorf("the gate is process %d, before it was %d", pid, old)
			}
			d.Capture(uid, "counts that the gate failed", func(c event.Capture) bool { return c.Culprit.GateFailures == 1 })
			all.goOn()
			all.finish()
			d.NextWhole(t, uid)
			d.Stop()
			h.Unharmed(all.uid, all.innocent)
		})
	}
}

// A gate that was stopped while nothing was captured fails when it is wanted. The
// daemon notices, and stops in good order.
func TestGateStoppedBefore(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	d := h.Hunt(harness.ByFanotify(harness.Quick))
	harness.Eventually(t, "there is a gate", func() error {
		if d.Gate() == 0 {
			return errors.New("there is none")
		}
		return nil
	})
	if err := syscall.Kill(d.Gate(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	uid := harness.NewUID()
	s := h.Sender(uid)
	s.Ask("first.badzone.test")
	d.Trace(s.PID, "is there", nil)
	d.AwaitLog("the gate failed")
	d.InPlace(1)
	d.NextWhole(t, uid)
	d.Stop()
	h.Unharmed(uid)
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
			h := harness.NewHost(t, "")
			wrapper := filepath.Join(h.Dir, "strace")
			h.Write("strace", fmt.Sprintf(`#!/bin/sh
[ -e %[1]s.hangs ] && sleep 10
[ -e %[1]s.stops ] && kill -STOP $$
PATH=/usr/bin
exec strace "$@"
`, wrapper))
			config, evidence := h.Configure(harness.ByFanotify(harness.Quick))
			d := h.HuntWith(config, evidence, "PATH="+h.Dir+":"+os.Getenv("PATH"))
			uid := harness.NewUID()
			d.Captured(uid)
			h.Must(t, "sh", "-c", fmt.Sprintf(breaks, wrapper))
			all := startStreams(h, uid)
			all.goOn()
			all.finish()
			d.Stop()
			c := d.Capture(uid, "has missed programs", func(c event.Capture) bool { return len(c.Culprit.Missed) > 0 })
			t.Logf("missed %v", c.Culprit.Missed)
			h.Unharmed(all.uid, all.innocent)
		})
	}
}
