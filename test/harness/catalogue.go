package harness

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"culprit/internal/event"
)

// List runs one of the list commands on the daemon's evidence.
func List[T any](d *Daemon, what string, flags ...string) []T {
	d.T.Helper()
	r := d.Host.Culprit(append([]string{what, "--json", "--evidence", d.Evidence}, flags...)...)
	var all []T
	for line := range strings.Lines(r.Must(d.T)) {
		var v T
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			d.T.Fatalf("culprit %s --json printed what is no JSON: %v\n%s", what, err, line)
		}
		all = append(all, v)
	}
	return all
}

// Hits are the hits in the daemon's evidence, oldest first.
func (d *Daemon) Hits(flags ...string) []event.Hit {
	d.T.Helper()
	return List[event.Hit](d, "hits", flags...)
}

// Captures are the captures in the daemon's evidence, oldest first.
func (d *Daemon) Captures(flags ...string) []event.Capture {
	d.T.Helper()
	return List[event.Capture](d, "captures", flags...)
}

// Traces are the traces in the daemon's evidence, oldest first.
func (d *Daemon) Traces(flags ...string) []event.Trace {
	d.T.Helper()
	return List[event.Trace](d, "traces", flags...)
}

// Losses are the losses in the daemon's evidence, oldest first.
func (d *Daemon) Losses(flags ...string) []event.Loss {
	d.T.Helper()
	return List[event.Loss](d, "losses", flags...)
}

// Hit waits for the first hit that asks for a name, and returns it.
func (d *Daemon) Hit(name string) event.Hit {
	d.T.Helper()
	var found event.Hit
	Eventually(d.T, "a hit asks for "+name, func() error {
		for _, h := range d.Hits() {
			if h.DNS != nil && h.DNS.Question.Name == name {
				found = h
				return nil
			}
		}
		return errors.New("there is none")
	})
	return found
}

// Capture waits until the only capture of a user is as ok wants it.
func (d *Daemon) Capture(uid uint32, what string, ok func(event.Capture) bool) event.Capture {
	d.T.Helper()
	var found event.Capture
	Eventually(d.T, "the capture "+what, func() error {
		all := d.Captures("--user", fmt.Sprint(uid))
		if len(all) != 1 {
			return fmt.Errorf("there are %d", len(all))
		}
		if found = all[0]; !ok(found) {
			return fmt.Errorf("it is %+v", found.Culprit)
		}
		return nil
	})
	return found
}

// Trace waits for the only trace of a process to be as ok wants it; nil: to be there.
func (d *Daemon) Trace(pid int, what string, ok func(event.Trace) bool) event.Trace {
	d.T.Helper()
	var found event.Trace
	Eventually(d.T, fmt.Sprintf("the trace of process %d %s", pid, what), func() error {
		var all []event.Trace
		for _, t := range d.Traces() {
			if t.Process.PID == pid {
				all = append(all, t)
			}
		}
		if len(all) != 1 {
			return fmt.Errorf("there are %d", len(all))
		}
		if found = all[0]; ok != nil && !ok(found) {
			return fmt.Errorf("it is %+v", found.Culprit)
		}
		return nil
	})
	return found
}

// Ended reports whether a trace has ended.
func Ended(t event.Trace) bool { return t.Culprit.State == event.StateEnded }

// TracedPIDs are the processes that have a trace, each once.
func (d *Daemon) TracedPIDs() map[int]bool {
	d.T.Helper()
	pids := map[int]bool{}
	for _, t := range d.Traces() {
		pids[t.Process.PID] = true
	}
	return pids
}

// TracesOf waits until so many processes of the user have traces, and all have ended, apart from that of the
// process that was there before, and returns them by PID.
func (d *Daemon) TracesOf(uid uint32, before *Sender, processes int) map[int][]event.Trace {
	d.T.Helper()
	by := map[int][]event.Trace{}
	Eventually(d.T, "the traces have ended", func() error {
		clear(by)
		for _, tr := range d.Traces("--user", fmt.Sprint(uid)) {
			if pid := tr.Process.PID; pid != before.PID {
				if !Ended(tr) {
					return fmt.Errorf("that of %d has not", pid)
				}
				by[pid] = append(by[pid], tr)
			}
		}
		if len(by) < processes {
			return fmt.Errorf("only %d processes have traces, want %d", len(by), processes)
		}
		return nil
	})
	return by
}

// Proven fails the test unless a hit of this name is proven by a line of a trace
// whose system call holds the name, and returns it.
func (d *Daemon) Proven(t *testing.T, name string) event.Hit {
	t.Helper()
	hit := d.Hit(name)
	p := hit.Culprit.Proof
	if p == nil || p.Probable {
		why := d.Host.Culprit("show", hit.Event.ID, "--evidence", d.Evidence)
		t.Errorf("the hit of %s is not proven: %+v\n%s%s", name, p, why.Out, why.Errors)
		return hit
	}
	if hit.Culprit.Origin.Grade != event.GradeProof || hit.Process == nil {
		t.Errorf("%s is proven, but its origin is %+v", name, hit.Culprit.Origin)
	}
	traces := d.Traces()
	i := slices.IndexFunc(traces, func(tr event.Trace) bool { return tr.Event.ID == p.Trace.ID })
	if i < 0 {
		t.Errorf("the proof of %s names a trace that is not there: %+v", name, p)
		return hit
	}
	tr := traces[i]
	if tr.User.ID != hit.User.ID || tr.Culprit.Capture.ID != hit.Culprit.Capture.ID {
		t.Errorf("the proof of %s names the trace %+v", name, tr)
	}
	if !slices.ContainsFunc(tr.Culprit.Proofs, func(of event.ProofDetail) bool { return of.Hit.ID == hit.Event.ID && of.Line == p.Line }) {
		t.Errorf("the trace of %s does not name it among its proofs: %+v", name, tr.Culprit.Proofs)
	}
	text, err := ReadFile(tr.File.Path)
	if err != nil {
		t.Error(err)
		return hit
	}
	first, _, _ := strings.Cut(name, ".")
	line, _, _ := strings.Cut(string(text[p.Offset:]), "\n")
	if got := strings.Count(string(text[:p.Offset]), "\n") + 1; int64(got) != p.Line {
		t.Errorf("the proof of %s has line %d, at its offset line %d begins", name, p.Line, got)
	}
	if !strings.Contains(line, first+`\7badzone\4test`) || !strings.Contains(line, p.Syscall) || !strings.HasPrefix(line, fmt.Sprintf("%d ", p.TID)) {
		t.Errorf("the proof of %s is %+v, which is the line\n%s", name, p, line)
	}
	return hit
}
