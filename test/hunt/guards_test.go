package hunt

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"culprit/internal/event"
	"culprit/internal/words"
	"culprit/test/harness"
)

func TestNeverUsers(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	never, other := harness.NewUID(), harness.NewUID()
	d := h.Hunt(harness.LongWindow + fmt.Sprintf("guard: {never_users: [%d]}\n", never))
	a, b := h.Sender(never), h.Sender(other)
	check := harness.NeverTraced(t, a.PID)
	a.Ask("a.badzone.test")
	b.Ask("b.badzone.test")
	harness.Traced(t, b.Process)
	hit := d.Hit("a.badzone.test")
	if hit.Culprit.Capture != nil || words.NoCapture(hit.Culprit.NoCapture) != "guard.never_users names the user" {
		t.Errorf("the hit has the capture %v, no capture because %q", hit.Culprit.Capture, hit.Culprit.NoCapture)
	}
	if got := d.Captures("--user", fmt.Sprint(never)); len(got) != 0 {
		t.Errorf("captures of the user: %+v", got)
	}
	if got := h.Culprit("show", "--evidence", d.Evidence, hit.Event.ID).Must(t); !strings.Contains(got, "guard.never_users names the user") {
		t.Errorf("culprit show does not say why there is no capture:\n%s", got)
	}
	check()
	d.Stop()
}

// A program that is never traced is not when it is there, nor when a traced
// process becomes it, nor when one starts it.
func TestNeverExecutables(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	path, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		t.Fatal(err)
	}
	d := h.Hunt(harness.LongWindow + "guard: {never_executables: [" + filepath.Dir(path) + "/sleep*]}\n")
	uid := harness.NewUID()
	asleep := h.StartAs(uid, path, "1000")
	becomes, parent := h.Sender(uid), h.Sender(uid)
	check := harness.NeverTraced(t, asleep.PID)
	parent.Ask("x.badzone.test")
	harness.Traced(t, becomes.Process, parent.Process)
	reason := "guard.never_executables names " + filepath.Dir(path) + "/sleep*"
	c := d.Capture(uid, "has missed the program", func(c event.Capture) bool { return c.Culprit.Missed[event.UntracedNeverExecutables] == 1 })
	if e := c.Culprit.Examples; len(e) != 1 || e[0].PID != asleep.PID || e[0].CommandLine != path+" 1000" || words.Untraced(e[0].Reason) != reason {
		t.Errorf("the missed processes are %+v, want %d", e, asleep.PID)
	}
	check()

	becomes.Say("exec " + path + " 1000")
	tr := d.Trace(becomes.PID, "has ended", harness.Ended)
	if words.TraceEnded(tr.Culprit.EndedBecause) != "detached: "+reason {
		t.Errorf("the trace of the process that became the program ended because %q", tr.Culprit.EndedBecause)
	}
	harness.Free(t, becomes.Process)

	// strace follows its parent into it: so it lets go of both, and comes back for the
	// parent, which does not become free by that.
	child := parent.Spawn(path + " 1000")
	harness.Eventually(t, "the parent is traced once more", func() error {
		var of []string
		for _, tr := range d.Traces() {
			if tr.Process.PID == parent.PID {
				of = append(of, words.TraceEnded(tr.Culprit.EndedBecause))
			}
		}
		if len(of) != 2 || of[0] != "detached: "+reason || of[1] != "" {
			return fmt.Errorf("its traces ended because %q", of)
		}
		return nil
	})
	harness.Traced(t, parent.Process)
	harness.Eventually(t, "the child goes on untraced", func() error { return harness.IsFree(child) })
	parent.Ask("again.badzone.test")
	d.Hit("again.badzone.test")
	if err := harness.IsFree(child); err != nil {
		t.Errorf("the child: %v", err)
	}
	d.Stop()
}

// A process that somebody else traces stays theirs.
func TestTracedByOthers(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	d := h.Hunt(harness.LongWindow)
	uid := harness.NewUID()
	s, debugged := h.Sender(uid), h.Idle(uid)
	other := h.StartAs(0, "strace", "-o", "/dev/null", "-p", strconv.Itoa(debugged.PID))
	harness.Traced(t, debugged)
	s.Ask("x.badzone.test")
	harness.Traced(t, s.Process)
	reason := fmt.Sprintf("already traced by process %d (strace)", other.PID)
	d.Capture(uid, "has missed the process", func(c event.Capture) bool {
		return c.Culprit.Missed[event.UntracedForeign] == 1 && words.Untraced(c.Culprit.Examples[0].Reason) == reason
	})
	if _, tracer := harness.Status(debugged.PID); tracer != other.PID {
		t.Errorf("process %d traces it now, want %d", tracer, other.PID)
	}
	if d.TracedPIDs()[debugged.PID] {
		t.Errorf("there is a trace of the process")
	}
	d.Stop()
}

// What is missed can be seen while the capture runs, not only at its end.
func TestMissedIsTold(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	d := h.Hunt("capture: {levels: [{hits: 1, processes: 1, window: 10m}, {hits: 100, processes: 2}]}\n")
	uid := harness.NewUID()
	s := h.Sender(uid)
	s.Ask("x.badzone.test")
	d.Trace(s.PID, "is there", nil)
	late := h.Idle(uid)
	c := d.Capture(uid, "has missed the process", func(c event.Capture) bool { return c.Culprit.Missed[event.UntracedLevel] == 1 })
	if e := c.Culprit.Examples; len(e) != 1 || e[0].PID != late.PID {
		t.Errorf("the missed processes are %+v, want %d", e, late.PID)
	}
	d.Stop()
}

// Of some users only the process that sent the packet is traced, and what stems
// from it; root is always one of them.
func TestProcessScope(t *testing.T) {
	t.Parallel()
	named := harness.NewUID()
	for name, c := range map[string]struct {
		uid    uint32
		config string
	}{
		"root":                {0, harness.LongWindow + "guard: {process_scope_users: []}\n"},
		"process_scope_users": {named, harness.LongWindow + fmt.Sprintf("guard: {process_scope_users: [%d]}\n", named)},
		"scope process":       {harness.NewUID(), strings.Replace(harness.LongWindow, "{", "{scope: process, ", 1)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := harness.NewHost(t, "")
			d := h.Hunt(c.config)
			s, other, innocent := h.Sender(c.uid), h.Sender(c.uid), h.Idle(c.uid)
			child := s.Spawn("sleep 1000")
			check := harness.NeverTraced(t, innocent.PID, other.PID, os.Getpid(), d.PID)
			s.Ask("x.badzone.test")
			harness.Traced(t, s.Process)
			harness.Eventually(t, "the child is traced", func() error {
				if _, tracer := harness.Status(child); tracer == 0 {
					return errors.New("it is not")
				}
				return nil
			})
			// A second scan of everything, and what starts meanwhile.
			late := h.Idle(c.uid)
			grandchild := s.Spawn("sleep 1000")
			harness.Eventually(t, "the new child is traced", func() error {
				if _, tracer := harness.Status(grandchild); tracer == 0 {
					return errors.New("it is not")
				}
				return nil
			})
			check()
			d.Capture(c.uid, "has the scope process", func(c event.Capture) bool { return c.Culprit.Scope == "process" })
			// Another process that sends is traced from then on.
			late.Stdin.Close()
			recheck := harness.NeverTraced(t, innocent.PID, os.Getpid(), d.PID)
			other.Ask("y.badzone.test")
			harness.Traced(t, other.Process)
			recheck()
			d.Stop()
			if err := harness.IsFree(child); err != nil {
				t.Errorf("after the end the child should go on: %v", err)
			}
			wanted := map[int]bool{s.PID: true, child: true, grandchild: true, other.PID: true}
			for pid := range d.TracedPIDs() {
				if !wanted[pid] {
					t.Errorf("process %d was traced, want only those that sent, and their children: %v", pid, wanted)
				}
			}
		})
	}
}

// The daemon and its straces are not traced, even if they stem from the culprit.
func TestNeverItself(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	config, evidence := h.Configure(harness.LongWindow)
	s := h.Sender(0)
	log := filepath.Join(h.Dir, "log")
	pid := s.Spawn("sh -c 'exec " + harness.Programs.Culprit + " run -c " + config + " 2>" + log + "'")
	logged := func(message string) func() error {
		return func() error {
			text, err := os.ReadFile(log)
			if err == nil && !strings.Contains(string(text), `"message":"`+message+`"`) {
				err = fmt.Errorf("the log is %s", text)
			}
			return err
		}
	}
	harness.Eventually(t, "the daemon is ready", logged("ready"))
	check := harness.NeverTraced(t, pid)
	sibling := s.Spawn("sleep 1000")
	s.Ask("x.badzone.test")
	harness.Traced(t, s.Process)
	harness.Eventually(t, "the sibling is traced", func() error {
		if _, tracer := harness.Status(sibling); tracer == 0 {
			return errors.New("it is not")
		}
		return nil
	})
	straces := harness.NeverTraced(t, harness.Children(pid)...)
	s.Ask("y.badzone.test")
	d := &harness.Daemon{Process: &harness.Process{T: t, PID: pid}, Host: h, Evidence: evidence}
	d.Hit("y.badzone.test")
	d.Capture(0, "has missed the daemon", func(c event.Capture) bool {
		return c.Culprit.Missed[event.UntracedOurs] > 0
	})
	straces()
	check()
	if err := exec.Command("kill", strconv.Itoa(pid)).Run(); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, "the daemon has stopped", logged("stopped"))
	for traced := range d.TracedPIDs() {
		if traced != s.PID && traced != sibling {
			t.Errorf("process %d was traced, want only %d and %d; the daemon was %d", traced, s.PID, sibling, pid)
		}
	}
	harness.Free(t, s.Process)
}
