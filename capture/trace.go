package capture

import (
	"time"

	"culprit/capture/tracer"
	"culprit/internal/event"
	"culprit/internal/proc"
)

// trace is what the controller knows of one trace, while its tracer runs.
type trace struct {
	campaign *campaign
	id       proc.ID
	strace   detacher   // once it was started
	hit      *event.Hit // that it belongs to; nil by hand
	doc      event.Trace

	state      state
	foundAt    time.Time // when the process was found
	attachedAt time.Time // when strace was on it
	program    sighting
	described  bool // the tracer has looked at the process and made the file
	holds      holds
	again      bool // strace has to let go because of a child: look for the process afterwards
}

// detacher is a strace that can be told to let go, a [tracer.Tracer]. That never waits.
type detacher interface{ Detach(why event.Ended) }

// sighting is when and how the program in a trace's document was seen.
type sighting struct {
	at     time.Time
	coming bool // by the gate: the process is about to become it
}

// holds are the gate's holds of one process, by what they wait for.
type holds struct {
	attach []uint64  // until strace is on the process
	end    []uint64  // until strace has let go: a guard forbids what the process becomes
	latest time.Time // when the latest that a trace begins with began
}

// on takes in what changes the state.
func (t *trace) on(o occurrence) { t.state = t.state.after(o) }

// detach tells strace to let go, unless it was told before.
func (t *trace) detach(why event.Ended) {
	if t.state == stateAttaching || t.state == stateAttached {
		t.strace.Detach(why)
		t.on(onDetach)
	}
}

// hold notes that the gate holds the process, and reports whether it is to wait for strace.
func (t *trace) hold(number uint64, at time.Time) (waits bool) {
	t.holds.latest = at
	if !t.state.isStarting() {
		return false
	}
	t.holds.attach = append(t.holds.attach, number)
	return true
}

// attached notes that strace is on the process, and returns the holds that waited for it.
func (t *trace) attached(a tracer.Attachment) (holds []uint64) {
	t.on(onAttach)
	t.attachedAt = a.At
	d := &t.doc.Culprit
	d.Strace = a.Strace
	d.AttachMS = milliseconds(a.At.Sub(t.foundAt))
	d.AgeMS = max(0, milliseconds(a.At.Sub(t.doc.Process.Start)))
	holds, t.holds.attach = t.holds.attach, nil
	return holds
}

// checkStart notes whether strace was on a held process before its hold was over,
// which takes deadline at most.
func (t *trace) checkStart(deadline time.Duration) {
	if !t.holds.latest.IsZero() && t.state.isOn() && t.attachedAt.Before(t.holds.latest.Add(deadline)) {
		t.doc.Culprit.FromStart = true
	}
}

// becomes notes what program the process runs or is about to run, if that is news, and
// reports whether it is.
func (t *trace) becomes(f found) bool {
	byGate := f.How == event.FoundGate
	// What is held is about to become something, whenever it was found.
	news := byGate && f.hold != 0 || (byGate || f.How == event.FoundExec) && f.At.After(t.program.at)
	if !news || f.Program.Executable == "" {
		return false
	}
	t.program = sighting{f.At, byGate}
	f.Program.Update(&t.doc.Process)
	return true
}

// describe notes what the tracer saw of the process.
func (t *trace) describe(d tracer.Description) {
	was := t.doc.Process
	t.doc.Process, t.doc.Container, t.doc.File = d.Process, d.Container, d.File
	// It has become another program since, or is about to.
	if t.program.at.After(d.At) || t.program.coming && d.Process.Executable != was.Executable {
		t.doc.Process.Name, t.doc.Process.Executable, t.doc.Process.CommandLine = was.Name, was.Executable, was.CommandLine
	}
	t.described = true
}

// isKnown reports whether all is known that there is at the beginning of a trace.
func (t *trace) isKnown() bool { return t.state.isOn() && t.described }

// ended notes how strace has ended, after it was on the process.
func (t *trace) ended(e tracer.Ending) {
	d := &t.doc.Culprit
	d.State, d.EndedBecause, d.Lost, d.Truncated = event.StateEnded, &e.Because, e.Lost, e.Lost > 0
	t.doc.Process.ExitCode = e.ExitCode
	if p := e.Program; p != nil {
		// Its execve is in the trace, and so is all that the program did.
		d.FromStart = true
		p.Set(&t.doc.Process)
	}
	t.doc.File.Size = e.Size
	t.doc.Event.Finish(e.At)
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
