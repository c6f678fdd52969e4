package faults

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"culprit/internal/event"
	"culprit/internal/words"
	"culprit/test/harness"
)

// busy starts a daemon that traces an idle process, a sender and one that makes
// system calls without end.
func busy(h *harness.Host, config string) (*harness.Daemon, []*harness.Process) {
	h.T.Helper()
	d := h.Hunt(config)
	uid := harness.NewUID()
	idle, s, chat := h.Idle(uid), h.Sender(uid), h.Sender(uid)
	s.Ask("x.badzone.test")
	ps := []*harness.Process{idle, s.Process, chat.Process}
	harness.Traced(h.T, ps...)
	for _, p := range ps {
		d.Trace(p.PID, "is there", nil)
	}
	chat.Say("chat")
	return d, ps
}

// A daemon that is stopped leaves the machine as it was.
func TestStop(t *testing.T) {
	harness.EachBackend(t, func(t *testing.T, h *harness.Host) {
		before := h.Firewall()
		d, ps := busy(h, harness.LongWindow)
		if h.Firewall() == before {
			t.Error("the daemon changed nothing in the firewall")
		}
		d.Stop()
		harness.Free(t, ps...)
		h.Unchanged(before, "after the daemon has stopped")
		for _, tr := range d.Traces() {
			if tr.Culprit.State != event.StateEnded || words.TraceEnded(tr.Culprit.EndedBecause) != "detached: culprit was stopped" {
				t.Errorf("trace of %d: %+v, want it detached because culprit was stopped", tr.Process.PID, tr.Culprit)
			}
			if _, foot, _ := harness.ReadTrace(t, tr.File.Path); foot["ended"] != "detached: culprit was stopped" || foot["exit status"] != "not seen" {
				t.Errorf("the trace of %d ends with %v", tr.Process.PID, foot)
			}
		}
		if c := d.Captures(); len(c) != 1 || c[0].Culprit.State != event.StateEnded || words.CaptureEnded(c[0].Culprit.EndedBecause) != "culprit was stopped" {
			t.Errorf("captures: %+v, want one that ended because culprit was stopped", c)
		}
	})
}

// A second signal ends the daemon at once, whatever holds it up.
func TestSecondSignal(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	d := h.Hunt(harness.LongWindow)
	s := h.Sender(harness.NewUID())
	s.Ask("x.badzone.test")
	d.Trace(s.PID, "is there", nil)
	// A strace that is stopped does not end when it is asked to.
	straces := d.Straces()
	if len(straces) != 1 {
		t.Fatalf("the daemon's children are %v, want one strace", straces)
	}
	if err := syscall.Kill(straces[0], syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	d.Signal(syscall.SIGTERM)
	d.AwaitLog("stopping")
	if d.Ended() {
		t.Fatal("the daemon ended before its strace did")
	}
	harness.Within(t, time.Second, "the daemon ends after a second signal", func() error {
		if !d.Ended() {
			syscall.Kill(d.PID, syscall.SIGINT) // one that comes within 50 ms is the first one again
			return errors.New("it runs on")
		}
		return nil
	})
	if got := d.Wait(); got != 128+int(syscall.SIGINT) {
		t.Errorf("the daemon ended with %d, want %d", got, 128+int(syscall.SIGINT))
	}
	d.Gone()
	harness.Free(t, s.Process)
}

// A daemon that is killed leaves nothing that holds anything up, and the next one
// clears away the rest.
func TestKill(t *testing.T) {
	harness.EachBackend(t, func(t *testing.T, h *harness.Host) {
		before := h.Firewall()
		d, ps := busy(h, harness.LongWindow)
		straces := d.Straces()
		if len(straces) != len(ps) {
			t.Fatalf("the daemon's children are %v, want %d straces", straces, len(ps))
		}
		d.Signal(syscall.SIGKILL)
		d.Wait()
		d.Gone()
		harness.Within(t, 2*time.Second, "what was traced goes on", func() error {
			var errs []error
			for _, p := range ps {
				errs = append(errs, harness.IsFree(p.PID))
			}
			return errors.Join(errs...)
		})
		if len(d.Traces()) != len(ps) {
			t.Errorf("the catalogue of the killed daemon has %d traces, want %d", len(d.Traces()), len(ps))
		}
		// The rules log to nobody now; packets go their way.
		h.Must(t, harness.Programs.OffenderC, "-w", "-n", "y.badzone.test")

		next := h.HuntWith(d.Config, d.Evidence)
		for _, tr := range next.Traces() {
			if tr.Culprit.State != event.StateLost || words.TraceEnded(tr.Culprit.EndedBecause) != "culprit was killed" {
				t.Errorf("trace of %d: %+v, want it lost because culprit was killed", tr.Process.PID, tr.Culprit)
			}
			text, err := harness.ReadFile(tr.File.Path)
			if err != nil {
				t.Error(err)
				continue
			}
			if !strings.HasPrefix(string(text), "# culprit trace: "+tr.Event.ID+"\n") || !strings.HasSuffix(string(text), "\n# ended: culprit was killed: this trace is partial\n") {
				t.Errorf("%s does not say that it is partial:\n%s", tr.File.Path, harness.Tail(string(text)))
			}
			if tr.File.Size != int64(len(text)) {
				t.Errorf("%s has %d bytes, the catalogue says %d", tr.File.Path, len(text), tr.File.Size)
			}
		}
		if c := next.Captures(); len(c) != 1 || c[0].Culprit.State != event.StateLost {
			t.Errorf("captures: %+v, want one that is lost", c)
		}
		h.Culprit("rules", "status", "-c", d.Config).Must(t)
		s := h.Sender(harness.NewUID())
		s.Ask("again.badzone.test")
		harness.Traced(t, s.Process)
		next.Hit("again.badzone.test")
		if hits := next.Hits(); len(hits) != 2 {
			t.Errorf("%d hits, want one of each daemon and none from between", len(hits))
		}
		next.Stop()
		h.Unchanged(before, "after the next daemon has stopped")
	})
}

// A daemon can be ended at any instant, also while straces start: strace forks a
// child at first, to try what the kernel can do, which nobody ends if strace dies.
func TestEndWhileAttaching(t *testing.T) {
	t.Parallel()
	for name, sig := range map[string]syscall.Signal{"SIGTERM": syscall.SIGTERM, "SIGKILL": syscall.SIGKILL} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := harness.NewHost(t, "")
			uid := harness.NewUID()
			s := h.Sender(uid)
			// Processes that come as fast as they go, and whose parent is not traced.
			h.StartAs(0, "python3", "-I", "-S", "-c", fmt.Sprintf(`
import os, time
while True:
    if os.fork() == 0:
        os.setuid(%d)
        os.execvp("sleep", ["sleep", "0.05"])
    time.sleep(0.004)
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0: break
        except ChildProcessError: break
`, uid))
			for round := range 6 {
				d := h.Hunt("capture: {levels: [{hits: 1, processes: 100000, window: 10m}]}\n")
				s.Ask(fmt.Sprintf("q%d.badzone.test", round))
				harness.Eventually(t, "a dozen processes are traced", func() error {
					if n := strings.Count(d.Output.String(), `"message":"tracing"`); n < 12 {
						return fmt.Errorf("%d are", n)
					}
					return nil
				})
				if sig == syscall.SIGTERM {
					d.Stop()
				} else {
					d.Signal(sig)
					d.Wait()
					d.Gone()
				}
				harness.Free(t, s.Process)
			}
		})
	}
}

// The same, but sure to happen: a strace that has a child and dies when it is
// asked to, before it is on the process.
func TestStraceDiesStarting(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	h.Write("strace", `#!/bin/sh
case "$*" in *-V*) exec /usr/bin/strace "$@";; esac
sleep 1000 # a child that holds all of its files
`)
	config, evidence := h.Configure(harness.LongWindow)
	d := h.HuntWith(config, evidence, "PATH="+h.Dir+":"+os.Getenv("PATH"))
	s := h.Sender(harness.NewUID())
	s.Ask("x.badzone.test")
	harness.Eventually(t, "the strace has its child", func() error {
		if left := d.Left(); len(left) != 4 { // daemon, thawer, strace, child
			return fmt.Errorf("there are %v", left)
		}
		return nil
	})
	d.Stop()
}
