package test

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
)

func TestNeverUsers(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	never, other := newUID(), newUID()
	d := h.hunt(longWindow + fmt.Sprintf("guard: {never_users: [%d]}\n", never))
	a, b := h.sender(never), h.sender(other)
	check := neverTraced(t, a.pid)
	a.ask("a.badzone.test")
	b.ask("b.badzone.test")
	traced(t, b.process)
	hit := d.hit("a.badzone.test")
	if hit.Culprit.Capture != nil || words.NoCapture(hit.Culprit.NoCapture) != "guard.never_users names the user" {
		t.Errorf("the hit has the capture %v, no capture because %q", hit.Culprit.Capture, hit.Culprit.NoCapture)
	}
	if got := d.captures("--user", fmt.Sprint(never)); len(got) != 0 {
		t.Errorf("captures of the user: %+v", got)
	}
	if got := h.culprit("show", "--evidence", d.evidence, hit.Event.ID).must(t); !strings.Contains(got, "guard.never_users names the user") {
		t.Errorf("culprit show does not say why there is no capture:\n%s", got)
	}
	check()
	d.stop()
}

// A program that is never traced is not when it is there, nor when a traced
// process becomes it, nor when one starts it.
func TestNeverExecutables(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	path, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		t.Fatal(err)
	}
	d := h.hunt(longWindow + "guard: {never_executables: [" + filepath.Dir(path) + "/sleep*]}\n")
	uid := newUID()
	asleep := h.start(uid, path, "1000")
	becomes, parent := h.sender(uid), h.sender(uid)
	check := neverTraced(t, asleep.pid)
	parent.ask("x.badzone.test")
	traced(t, becomes.process, parent.process)
	reason := "guard.never_executables names " + filepath.Dir(path) + "/sleep*"
	c := d.capture(uid, "has missed the program", func(c event.Capture) bool { return c.Culprit.Missed[event.UntracedNeverExecutables] == 1 })
	if e := c.Culprit.Examples; len(e) != 1 || e[0].PID != asleep.pid || e[0].CommandLine != path+" 1000" || words.Untraced(e[0].Reason) != reason {
		t.Errorf("the missed processes are %+v, want %d", e, asleep.pid)
	}
	check()

	becomes.say("exec " + path + " 1000")
	tr := d.trace(becomes.pid, "has ended", ended)
	if words.TraceEnded(tr.Culprit.EndedBecause) != "detached: "+reason {
		t.Errorf("the trace of the process that became the program ended because %q", tr.Culprit.EndedBecause)
	}
	free(t, becomes.process)

	// strace follows its parent into it: so it lets go of both, and comes back for the
	// parent, which does not become free by that.
	child := parent.spawn(path + " 1000")
	eventually(t, "the parent is traced once more", func() error {
		var of []string
		for _, tr := range d.traces() {
			if tr.Process.PID == parent.pid {
				of = append(of, words.TraceEnded(tr.Culprit.EndedBecause))
			}
		}
		if len(of) != 2 || of[0] != "detached: "+reason || of[1] != "" {
			return fmt.Errorf("its traces ended because %q", of)
		}
		return nil
	})
	traced(t, parent.process)
	eventually(t, "the child goes on untraced", func() error { return isFree(child) })
	parent.ask("again.badzone.test")
	d.hit("again.badzone.test")
	if err := isFree(child); err != nil {
		t.Errorf("the child: %v", err)
	}
	d.stop()
}

// A process that somebody else traces stays theirs.
func TestTracedByOthers(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	d := h.hunt(longWindow)
	uid := newUID()
	s, debugged := h.sender(uid), h.idle(uid)
	other := h.start(0, "strace", "-o", "/dev/null", "-p", strconv.Itoa(debugged.pid))
	traced(t, debugged)
	s.ask("x.badzone.test")
	traced(t, s.process)
	reason := fmt.Sprintf("traced by process %d (strace) already", other.pid)
	d.capture(uid, "has missed the process", func(c event.Capture) bool {
		return c.Culprit.Missed[event.UntracedForeign] == 1 && words.Untraced(c.Culprit.Examples[0].Reason) == reason
	})
	if _, tracer := status(debugged.pid); tracer != other.pid {
		t.Errorf("process %d traces it now, want %d", tracer, other.pid)
	}
	if d.tracedPIDs()[debugged.pid] {
		t.Errorf("there is a trace of the process")
	}
	d.stop()
}

// What is missed can be seen while the capture runs, not only at its end.
func TestMissedIsTold(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	d := h.hunt("capture: {levels: [{hits: 1, processes: 1, window: 10m}, {hits: 100, processes: 2}]}\n")
	uid := newUID()
	s := h.sender(uid)
	s.ask("x.badzone.test")
	d.trace(s.pid, "is there", nil)
	late := h.idle(uid)
	c := d.capture(uid, "has missed the process", func(c event.Capture) bool { return c.Culprit.Missed[event.UntracedLevel] == 1 })
	if e := c.Culprit.Examples; len(e) != 1 || e[0].PID != late.pid {
		t.Errorf("the missed processes are %+v, want %d", e, late.pid)
	}
	d.stop()
}

// Of some users only the process that sent the packet is traced, and what stems
// from it; root is always one of them.
func TestProcessScope(t *testing.T) {
	t.Parallel()
	named := newUID()
	for name, c := range map[string]struct {
		uid    uint32
		config string
	}{
		"root":                {0, longWindow + "guard: {process_scope_users: []}\n"},
		"process_scope_users": {named, longWindow + fmt.Sprintf("guard: {process_scope_users: [%d]}\n", named)},
		"scope process":       {newUID(), strings.Replace(longWindow, "{", "{scope: process, ", 1)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, "")
			d := h.hunt(c.config)
			s, other, innocent := h.sender(c.uid), h.sender(c.uid), h.idle(c.uid)
			child := s.spawn("sleep 1000")
			check := neverTraced(t, innocent.pid, other.pid, os.Getpid(), d.pid)
			s.ask("x.badzone.test")
			traced(t, s.process)
			eventually(t, "the child is traced", func() error {
				if _, tracer := status(child); tracer == 0 {
					return errors.New("it is not")
				}
				return nil
			})
			// A second scan of everything, and what starts meanwhile.
			late := h.idle(c.uid)
			grandchild := s.spawn("sleep 1000")
			eventually(t, "the new child is traced", func() error {
				if _, tracer := status(grandchild); tracer == 0 {
					return errors.New("it is not")
				}
				return nil
			})
			check()
			d.capture(c.uid, "has the scope process", func(c event.Capture) bool { return c.Culprit.Scope == "process" })
			// Another process that sends is traced from then on.
			late.stdin.Close()
			recheck := neverTraced(t, innocent.pid, os.Getpid(), d.pid)
			other.ask("y.badzone.test")
			traced(t, other.process)
			recheck()
			d.stop()
			if err := isFree(child); err != nil {
				t.Errorf("after the end the child should go on: %v", err)
			}
			wanted := map[int]bool{s.pid: true, child: true, grandchild: true, other.pid: true}
			for pid := range d.tracedPIDs() {
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
	h := newHost(t, "")
	config, evidence := h.configure(longWindow)
	s := h.sender(0)
	log := filepath.Join(h.dir, "log")
	pid := s.spawn("sh -c 'exec " + programs.culprit + " run -c " + config + " 2>" + log + "'")
	logged := func(message string) func() error {
		return func() error {
			text, err := os.ReadFile(log)
			if err == nil && !strings.Contains(string(text), `"message":"`+message+`"`) {
				err = fmt.Errorf("the log is %s", text)
			}
			return err
		}
	}
	eventually(t, "the daemon is ready", logged("ready"))
	check := neverTraced(t, pid)
	sibling := s.spawn("sleep 1000")
	s.ask("x.badzone.test")
	traced(t, s.process)
	eventually(t, "the sibling is traced", func() error {
		if _, tracer := status(sibling); tracer == 0 {
			return errors.New("it is not")
		}
		return nil
	})
	straces := neverTraced(t, children(pid)...)
	s.ask("y.badzone.test")
	d := &daemon{process: &process{t: t, pid: pid}, host: h, evidence: evidence}
	d.hit("y.badzone.test")
	d.capture(0, "has missed the daemon", func(c event.Capture) bool {
		return c.Culprit.Missed[event.UntracedOurs] > 0
	})
	straces()
	check()
	if err := exec.Command("kill", strconv.Itoa(pid)).Run(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the daemon has stopped", logged("stopped"))
	for traced := range d.tracedPIDs() {
		if traced != s.pid && traced != sibling {
			t.Errorf("process %d was traced, want only %d and %d; the daemon was %d", traced, s.pid, sibling, pid)
		}
	}
	free(t, s.process)
}
