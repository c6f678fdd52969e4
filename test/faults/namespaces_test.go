package faults

import (
	"fmt"
	"strings"
	"testing"

	"culprit/internal/event"
	"culprit/test/harness"
)

// A process of the user's in PID, mount and network namespaces of its own, and in
// another root: its lines have the PIDs of the host, and its packets their proofs.
func TestTraceInNamespaces(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	d := h.Hunt(harness.Gated)
	uid := harness.NewUID()
	d.Captured(uid)
	h.Must(t, "install", "-D", "-m", "755", villain(h), h.Dir+"/jail/villain")
	p := h.StartAs(0, villain(h), "unshare", "pid", "unshare", "mnt", "fork", "chroot", h.Dir+"/jail", "setuid", fmt.Sprint(uid), "exec", "/villain",
		"sleep", "500", "ids", "packet", "inner.badzone.test", "send", "wait", "fork", "packet", "innermost.badzone.test", "send", "wait", "exit", "9")
	p.Said("wait", 1)
	inner := onlyChild(t, p.PID)
	p.Say("")
	p.Said("wait", 2)
	innermost := onlyChild(t, inner)
	tracedPID(t, innermost)
	p.Say("")
	if got := p.Wait(); got != 9 || !strings.Contains(p.Output.String(), ", PID 1") {
		t.Errorf("it ended with %d: %s", got, p.Output)
	}
	tr := d.Trace(inner, "has ended", harness.Ended)
	lean(d)
	d.Stop()
	h.Unharmed(uid)

	for name, pid := range map[string]int{"inner.badzone.test": inner, "innermost.badzone.test": innermost} {
		hit := d.Proven(t, name)
		if c := hit.Culprit.Proof; c == nil || c.TID != pid || c.Trace.ID != tr.Event.ID || hit.Process == nil || hit.Process.PID != pid {
			t.Errorf("%s is of process %+v by the proof %+v, want %d", name, hit.Process, c, pid)
		}
	}
	_, _, body := harness.ReadTrace(t, tr.File.Path)
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
	h := harness.NewHost(t, "")
	d := h.Hunt(harness.Gated)
	uid := harness.NewUID()
	d.Captured(uid)
	p := h.StartAs(uid, villain(h), "untraced", "say", "a", "wait", "packet", "hidden.badzone.test", "send", "exit", "8")
	p.Said("wait", 1)
	child := onlyChild(t, p.PID)
	tracedPID(t, child)
	p.Say("")
	if got := p.Wait(); got != 8 {
		t.Errorf("it ended with %d: %s", got, p.Output)
	}
	tr := d.Trace(child, "has ended", harness.Ended)
	if c := tr.Process.ExitCode; c == nil || *c != 8 || tr.Culprit.FoundBy != event.FoundFork {
		t.Errorf("the child was found by %s, and has the exit code %v, want %s and 8", tr.Culprit.FoundBy, c, event.FoundFork)
	}
	lean(d)
	d.Stop()
	h.Unharmed(uid)
	if hit := d.Proven(t, "hidden.badzone.test"); hit.Process == nil || hit.Process.PID != child {
		t.Errorf("the packet is of process %+v, want %d", hit.Process, child)
	}
}

// A process that is traced goes through another network namespace and comes back.
func TestTraceThroughNetworks(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	d := h.Hunt(harness.Gated)
	p := h.StartAs(0, villain(h), "packet", "here.badzone.test", "send", "wait",
		"unshare", "net", "say", "there", "wait", "packet", "back.badzone.test", "send", "exit", "0")
	p.Said("wait", 1)
	harness.Traced(t, p) // root's process alone
	tr := d.Trace(p.PID, "is there", nil)
	p.Say("")
	p.Said("wait", 2)
	p.Say("") // its socket is still of the first network
	if got := p.Wait(); got != 0 {
		t.Errorf("it ended with %d: %s", got, p.Output)
	}
	d.Trace(p.PID, "has ended", harness.Ended)
	d.Stop()
	if c := d.Proven(t, "back.badzone.test").Culprit.Proof; c != nil && c.Trace.ID != tr.Event.ID {
		t.Errorf("the proof is in trace %s, want %s", c.Trace.ID, tr.Event.ID)
	}
}
