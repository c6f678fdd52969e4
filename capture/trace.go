package capture

import (
	"time"

	"culprit/capture/finder"
	"culprit/capture/tracer"
	"culprit/internal/event"
	"culprit/internal/proc"
)

// trace is what the controller knows of a trace while its tracer runs.
type trace struct {
	campaign *campaign
	id       proc.ID
	strace   detacher
	hit      *event.Hit // that the trace belongs to; nil in a capture by hand
	doc      event.Trace

	state      state
	foundAt    time.Time // when the process was found
	attachedAt time.Time // when strace was attached
	program    sighting
	described  bool // the tracer has looked at the process and made the file
	holds      holds
	ran        bool // it was let go on before strace was attached
	again      bool // strace detaches because of a child: look for the process afterwards
}

// detacher is a strace that can be told to detach, a [tracer.Tracer]. Detach never waits.
type detacher interface{ Detach(why event.Ended) }

// sighting is when and how the program was seen that is in the document of a trace.
type sighting struct {
	at     time.Time
	coming bool // the gate saw it: the process is about to become it
}

// holds are the holds of one process, of the gate and of the kernel, by what they wait for.
type holds struct {
	attach []uint64  // until strace is attached
	end    []uint64  // until strace has ended: a guard forbids what the process becomes
	latest time.Time // when the gate's latest hold of a program that may be traced began
	packet time.Time // when the kernel stopped the process at a packet
}

// on changes the state after an occurrence.
func (t *trace) on(o occurrence) { t.state = t.state.after(o) }

// detach tells strace to detach, unless it was told before.
func (t *trace) detach(why event.Ended) {
	if t.state == stateAttaching || t.state == stateAttached {
		t.strace.Detach(why)
		t.on(onDetach)
	}
}

// hold notes that the process is held, and reports whether the hold is to wait until strace is
// attached.
func (t *trace) hold(f found) (waits bool) {
	if f.How == event.FoundPacket {
		t.holds.packet = f.At
	} else {
		t.holds.latest = f.At
	}
	if !t.state.isStarting() {
		return false
	}
	t.holds.attach = append(t.holds.attach, f.hold)
	return true
}

// attached notes that strace is attached, and returns the holds that waited for it.
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

// checkStart notes whether strace was attached before the hold of the process was over,
// which takes no longer than deadline.
func (t *trace) checkStart(deadline time.Duration) {
	inTime := func(hold time.Time) bool { return !hold.IsZero() && t.attachedAt.Before(hold.Add(deadline)) }
	if !t.state.isOn() {
		return
	}
	t.doc.Culprit.FromStart = t.doc.Culprit.FromStart || inTime(t.holds.latest)
	t.doc.Culprit.FromPacket = inTime(t.holds.packet) && !t.ran
}

// becomes notes which program the process runs or is about to run. It reports whether that
// is news.
func (t *trace) becomes(f found) bool {
	byGate := f.How == event.FoundGate
	// A held process is about to become its program, whenever it was found.
	news := f.isComing() || (byGate || f.How == event.FoundExec) && f.At.After(t.program.at)
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
	t.doc.User, t.doc.Process, t.doc.Place, t.doc.File = d.User, d.Process, d.Place, d.File
	t.ran = d.Ran
	if u := d.Process.RealUser; u != nil && t.campaign.owner.UID == finder.AnyUser {
		t.doc.User = *u
	}
	// The process has become another program since, or is about to.
	if t.program.at.After(d.At) || t.program.coming && d.Process.Executable != was.Executable {
		t.doc.Process.Name, t.doc.Process.Executable, t.doc.Process.CommandLine = was.Name, was.Executable, was.CommandLine
	}
	t.described = true
}

// isKnown reports whether everything is known that a trace has at its beginning.
func (t *trace) isKnown() bool { return t.state.isOn() && t.described }

// ended notes how a strace has ended that was attached.
func (t *trace) ended(e tracer.Ending) {
	d := &t.doc.Culprit
	d.State, d.EndedBecause, d.Lost, d.Truncated = event.StateEnded, &e.Because, e.Lost, e.Lost > 0
	t.doc.Process.ExitCode = e.ExitCode
	if p := e.Program; p != nil {
		// The execve is in the trace, and so is all that the program did.
		d.FromStart = true
		p.Set(&t.doc.Process)
	}
	t.doc.File.Size = e.Size
	t.doc.Event.Finish(e.At)
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
