package test

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
)

// busy starts a daemon that traces an idle process, a sender and one that makes
// system calls without end.
func (h *host) busy(config string) (*daemon, []*process) {
	h.t.Helper()
	d := h.hunt(config)
	uid := newUID()
	idle, s, chat := h.idle(uid), h.sender(uid), h.sender(uid)
	s.ask("x.badzone.test")
	ps := []*process{idle, s.process, chat.process}
	traced(h.t, ps...)
	for _, p := range ps {
		d.trace(p.pid, "is there", nil)
	}
	chat.say("chat")
	return d, ps
}

// A daemon that is stopped leaves the machine as it was.
func TestStop(t *testing.T) {
	eachBackend(t, func(t *testing.T, h *host) {
		before := h.firewall()
		d, ps := h.busy(longWindow)
		if h.firewall() == before {
			t.Error("the daemon changed nothing in the firewall")
		}
		d.stop()
		free(t, ps...)
		h.unchanged(before, "after the daemon has stopped")
		for _, tr := range d.traces() {
			if tr.Culprit.State != event.StateEnded || words.TraceEnded(tr.Culprit.EndedBecause) != "detached: culprit was stopped" {
				t.Errorf("trace of %d: %+v, want it detached because culprit was stopped", tr.Process.PID, tr.Culprit)
			}
			if _, foot, _ := readTrace(t, tr.File.Path); foot["ended"] != "detached: culprit was stopped" || foot["exit status"] != "not seen" {
				t.Errorf("the trace of %d ends with %v", tr.Process.PID, foot)
			}
		}
		if c := d.captures(); len(c) != 1 || c[0].Culprit.State != event.StateEnded || words.CaptureEnded(c[0].Culprit.EndedBecause) != "culprit was stopped" {
			t.Errorf("captures: %+v, want one that ended because culprit was stopped", c)
		}
	})
}

// A second signal ends the daemon at once, whatever holds it up.
func TestSecondSignal(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	d := h.hunt(longWindow)
	s := h.sender(newUID())
	s.ask("x.badzone.test")
	d.trace(s.pid, "is there", nil)
	// A strace that is stopped does not end when it is asked to.
	straces := d.straces()
	if len(straces) != 1 {
		t.Fatalf("the daemon's children are %v, want one strace", straces)
	}
	if err := syscall.Kill(straces[0], syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	d.signal(syscall.SIGTERM)
	d.awaitLog("stopping")
	if d.ended() {
		t.Fatal("the daemon ended before its strace did")
	}
	within(t, time.Second, "the daemon ends after a second signal", func() error {
		if !d.ended() {
			syscall.Kill(d.pid, syscall.SIGINT) // one that comes within 50 ms is the first one again
			return errors.New("it runs on")
		}
		return nil
	})
	if got := d.wait(); got != 128+int(syscall.SIGINT) {
		t.Errorf("the daemon ended with %d, want %d", got, 128+int(syscall.SIGINT))
	}
	d.gone()
	free(t, s.process)
}

// gone waits until nothing of the daemon lives.
func (d *daemon) gone() {
	d.t.Helper()
	within(d.t, held, "the daemon's straces have ended", func() error {
		if left := d.left(); len(left) > 0 {
			return fmt.Errorf("there are %v", left)
		}
		return nil
	})
	d.buried.Store(true)
}

// A daemon that is killed leaves nothing that holds anything up, and the next one
// clears away the rest.
func TestKill(t *testing.T) {
	eachBackend(t, func(t *testing.T, h *host) {
		before := h.firewall()
		d, ps := h.busy(longWindow)
		straces := d.straces()
		if len(straces) != len(ps) {
			t.Fatalf("the daemon's children are %v, want %d straces", straces, len(ps))
		}
		d.signal(syscall.SIGKILL)
		d.wait()
		d.gone()
		within(t, 2*time.Second, "what was traced goes on", func() error {
			var errs []error
			for _, p := range ps {
				errs = append(errs, isFree(p.pid))
			}
			return errors.Join(errs...)
		})
		if len(d.traces()) != len(ps) {
			t.Errorf("the catalogue of the killed daemon has %d traces, want %d", len(d.traces()), len(ps))
		}
		// The rules log to nobody now; packets go their way.
		h.Must(t, programs.offenderC, "-w", "-n", "y.badzone.test")

		next := h.huntWith(d.config, d.evidence)
		for _, tr := range next.traces() {
			if tr.Culprit.State != event.StateLost || words.TraceEnded(tr.Culprit.EndedBecause) != "culprit was killed" {
				t.Errorf("trace of %d: %+v, want it lost because culprit was killed", tr.Process.PID, tr.Culprit)
			}
			text, err := readFile(tr.File.Path)
			if err != nil {
				t.Error(err)
				continue
			}
			if !strings.HasPrefix(string(text), "# culprit trace: "+tr.Event.ID+"\n") || !strings.HasSuffix(string(text), "\n# ended: culprit was killed: this trace is partial\n") {
				t.Errorf("%s does not say that it is partial:\n%s", tr.File.Path, tail(string(text)))
			}
			if tr.File.Size != int64(len(text)) {
				t.Errorf("%s has %d bytes, the catalogue says %d", tr.File.Path, len(text), tr.File.Size)
			}
		}
		if c := next.captures(); len(c) != 1 || c[0].Culprit.State != event.StateLost {
			t.Errorf("captures: %+v, want one that is lost", c)
		}
		h.culprit("rules", "status", "-c", d.config).must(t)
		s := h.sender(newUID())
		s.ask("again.badzone.test")
		traced(t, s.process)
		next.hit("again.badzone.test")
		if hits := next.hits(); len(hits) != 2 {
			t.Errorf("%d hits, want one of each daemon and none from between", len(hits))
		}
		next.stop()
		h.unchanged(before, "after the next daemon has stopped")
	})
}

// A daemon can be ended at any instant, also while straces start: strace forks a
// child at first, to try what the kernel can do, which nobody ends if strace dies.
func TestEndWhileAttaching(t *testing.T) {
	t.Parallel()
	for name, sig := range map[string]syscall.Signal{"SIGTERM": syscall.SIGTERM, "SIGKILL": syscall.SIGKILL} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, "")
			uid := newUID()
			s := h.sender(uid)
			// Processes that come as fast as they go, and whose parent is not traced.
			h.start(0, "python3", "-I", "-S", "-c", fmt.Sprintf(`
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
				d := h.hunt("capture: {levels: [{hits: 1, processes: 100000, window: 10m}]}\n")
				s.ask(fmt.Sprintf("q%d.badzone.test", round))
				eventually(t, "a dozen processes are traced", func() error {
					if n := strings.Count(d.output.String(), `"message":"tracing"`); n < 12 {
						return fmt.Errorf("%d are", n)
					}
					return nil
				})
				if sig == syscall.SIGTERM {
					d.stop()
				} else {
					d.signal(sig)
					d.wait()
					d.gone()
				}
				free(t, s.process)
			}
		})
	}
}

// The same, but sure to happen: a strace that has a child and dies when it is
// asked to, before it is on the process.
func TestStraceDiesStarting(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	h.write("strace", `#!/bin/sh
case "$*" in *-V*) exec /usr/bin/strace "$@";; esac
sleep 1000 # a child that holds all of its files
`)
	config, evidence := h.configure(longWindow)
	d := h.huntWith(config, evidence, "PATH="+h.dir+":"+os.Getenv("PATH"))
	s := h.sender(newUID())
	s.ask("x.badzone.test")
	eventually(t, "the strace has its child", func() error {
		if left := d.left(); len(left) != 4 { // daemon, gate, strace, child
			return fmt.Errorf("there are %v", left)
		}
		return nil
	})
	d.stop()
}

func tail(s string) string { return s[max(0, len(s)-1000):] }
