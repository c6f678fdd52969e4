package capture

import (
	"strings"
	"testing"
	"time"

	"culprit/capture/tracer"
	"culprit/internal/config"
	"culprit/internal/event"
	"culprit/internal/strace"
)

// Holds wait until strace is attached; later ones end at once.
func TestHoldsWaitForStrace(t *testing.T) {
	t.Parallel()
	s := stage(1)
	s.check(t, "held", stateAttaching)
	s.found(event.FoundGate, "/bin/dash", 2, 1).handle(s.c)
	s.check(t, "held again", stateAttaching)
	s.attach(2)
	s.check(t, "attached", stateAttached, 1, 2)
	if d := s.trace.doc; !d.Culprit.FromStart || d.Process.Executable != "/bin/dash" || d.Culprit.AttachMS != 2 {
		t.Errorf("trace %+v", d)
	}
	s.found(event.FoundGate, "/bin/true", 3, 3).handle(s.c)
	s.check(t, "held when attached", stateAttached, 1, 2, 3)
	s.end()
	if s.check(t, "ended", stateEnded, 1, 2, 3); len(s.cam.traces) != 0 || s.c.running != 0 || !s.cam.programs.wanted[s.trace.id] {
		t.Error("an ended trace is still there, or its process may be traced again")
	}
}

// A strace that comes after the gate's deadline does not show the start.
func TestAttachedTooLate(t *testing.T) {
	t.Parallel()
	s := stage(1)
	s.attach(int(s.c.cfg.GateDeadline.Milliseconds()) + 1)
	if s.check(t, "attached", stateAttached, 1); s.trace.doc.Culprit.FromStart {
		t.Error("the trace is said to be from the start")
	}
}

// What the gate saw of a program may come after the end of its trace.
func TestGateIsLate(t *testing.T) {
	t.Parallel()
	s := stage(0)
	s.attach(1)
	s.end()
	recorded := s.c.recorder.(*memory).traces
	if recorded[s.trace.doc.Event.ID].Culprit.FromStart {
		t.Error("the trace is said to be from the start before the gate said anything")
	}
	f := s.found(event.FoundGate, "/bin/true", 0, 2)
	f.TracedByUs, f.gone = true, true
	f.handle(s.c)
	if !recorded[s.trace.doc.Event.ID].Culprit.FromStart || len(s.cam.late) != 0 {
		t.Error("the trace is not said to be from the start")
	}
	for range 1000 {
		s.cam.mayBeLate(newTrace(s.cam, s.found(event.FoundFork, "/bin/sh", 0, 0), nil))
	}
	if len(s.cam.late) > 100 {
		t.Errorf("%d traces are remembered", len(s.cam.late))
	}
}

// A process that becomes what a guard forbids waits until its strace has ended, which
// is told why it has to.
func TestForbiddenWaits(t *testing.T) {
	t.Parallel()
	for _, isOn := range []bool{false, true} {
		s := stage(1)
		var gone []uint64
		want := stateCancelled
		if isOn {
			s.attach(1)
			gone, want = []uint64{1}, stateDetaching
		}
		f := s.found(event.FoundGate, "/bin/secret", 2, 2)
		f.Forbidden = &event.Untraced{Code: event.UntracedNeverExecutables, Detail: "/bin/secret"}
		f.handle(s.c)
		s.check(t, "forbidden", want, gone...)
		if why := <-s.trace.stops(); why.Code != event.EndedNeverExecutables {
			t.Errorf("told to let go: %v", why)
		}
		if !isOn {
			s.attach(3)
			s.check(t, "attached", stateDetaching, 1)
		}
		s.end()
		s.check(t, "ended", stateEnded, 1, 2)
	}
}

// When a child of a traced process becomes what is forbidden, its strace lets go, and the
// rest is looked for again.
func TestForbiddenChild(t *testing.T) {
	t.Parallel()
	s := stage(0)
	s.attach(1)
	scans := s.cam.search.scans
	child := s.found(event.FoundGate, "/bin/secret", 5, 2)
	child.ID.PID = 8
	child.TracerPID, child.TracedByUs = stagedStrace, true
	child.Forbidden = &event.Untraced{Code: event.UntracedNeverExecutables}
	child.handle(s.c)
	s.check(t, "the child is forbidden", stateDetaching, 5)
	s.end()
	if s.cam.search.scans != scans+1 || s.cam.programs.wanted[s.trace.id] {
		t.Error("the process is not looked for again")
	}
}

// A trace that came to nothing gives back its place, and lets everybody go.
func TestGivenUp(t *testing.T) {
	t.Parallel()
	s := stage(1)
	traceEnded{s.trace, tracer.Ending{Refused: &event.Missed{PID: 7, Reason: event.Untraced{Code: event.UntracedSilent}}}}.handle(s.c)
	s.check(t, "refused", stateGivenUp, 1)
	if s.cam.budget.started != 0 || s.cam.programs.wanted[s.trace.id] || s.cam.doc.Culprit.Missed[event.UntracedSilent] != 1 {
		t.Errorf("capture %+v", s.cam.doc.Culprit)
	}
}

// What the tracer sees of the process counts unless the process has become another since,
// or is about to.
func TestDescribed(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		hold     uint64
		news     string // what it became, at 2 ms
		saw      string // what the tracer saw
		sawAfter int
		want     string
	}{
		{"nothing else is known", 0, "", "/bin/dash", 1, "/bin/dash"},
		{"it became another since", 0, "/bin/true", "/bin/dash", 1, "/bin/true"},
		{"seen after that", 0, "/bin/true", "/bin/dash", 3, "/bin/dash"},
		{"held, and still its old self", 1, "", "/bin/old", 1, "/bin/sh"},
	} {
		s := stage(tt.hold)
		s.attach(1)
		if tt.news != "" {
			s.found(event.FoundExec, tt.news, 0, 2).handle(s.c)
		}
		traceDescribed{s.trace, tracer.Description{
			At:      s.start.Add(time.Duration(tt.sawAfter) * time.Millisecond),
			Process: event.Process{PID: 7, Executable: tt.saw, WorkingDirectory: "/"},
		}}.handle(s.c)
		if p := s.trace.doc.Process; p.Executable != tt.want || p.WorkingDirectory != "/" || !s.trace.isKnown() {
			t.Errorf("%s: %+v, want %s", tt.name, p, tt.want)
		}
	}
}

func TestCommand(t *testing.T) {
	t.Parallel()
	p := strace.Program{Path: "/usr/bin/strace", Stacks: "libunwind"}
	got := strings.Join(command(p, config.Level{Strings: 65535, Syscalls: "%network", Stacks: true}, 812), " ")
	const want = "strace -f -ttt -T -yy -v -s 65535 -e trace=%network -k -o /proc/self/fd/3 -p 812"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
