package capture

import (
	"log/slog"
	"time"

	"culprit/capture/finder"
	"culprit/capture/tracer"
	"culprit/internal/config"
	"culprit/internal/event"
	"culprit/internal/proc"
	"culprit/internal/strace"
	"culprit/internal/words"
)

// What the controller decides about the processes that are found: which are traced, and
// whose trace ends.

// found says that a process of a captured user was found, perhaps not for the first time.
type found struct {
	finder.Process
	hold uint64 // the number of the gate's hold of it; 0: it is not held
	gone bool   // it has ended since
}

func (m found) handle(c *Controller) {
	cam := c.campaigns[m.UID]
	if cam == nil || c.stopping {
		c.letGo(m.hold)
		return
	}
	cam.seen(m.Process)
	if m.TracedByUs || cam.programs.wanted[m.ID] || cam.traces[m.ID] != nil {
		c.foundAgain(cam, m)
		return
	}
	why := m.Forbidden
	switch {
	case why != nil:
	case m.gone:
		why = &event.Untraced{Code: event.UntracedGone}
	default:
		why = cam.refuses(m.ID, c.running, c.cfg.Concurrent)
	}
	if why == nil {
		c.trace(cam, m)
		return
	}
	c.letGo(m.hold)
	if !cam.missed.has(m.ID) {
		c.meter.Untraced(why.Code)
	}
	c.miss(cam, m.ID, event.Missed{PID: m.ID.PID, CommandLine: m.Program.CommandLine, Reason: *why})
}

// foundAgain looks at a process that a strace of ours traces, or soon will: it may have
// become another program, or one that must not be traced.
func (c *Controller) foundAgain(cam *campaign, f found) {
	if f.Forbidden != nil {
		cam.forbid(f)
	}
	t := cam.traces[f.ID]
	if t == nil { // it is in the trace of an ancestor
		c.letGo(f.hold)
		return
	}
	switch {
	case f.hold == 0:
	case f.Forbidden != nil:
		t.holds.end = append(t.holds.end, f.hold)
	default:
		if !t.hold(f.hold, f.At) {
			c.letGo(f.hold)
		}
		t.checkStart(c.cfg.GateDeadline)
	}
	if f.How == event.FoundGate && f.TracedByUs {
		t.doc.Culprit.FromStart = true // strace was attached before the execve
	}
	if t.becomes(f) && t.isKnown() {
		c.recorder.Trace(t.doc)
	}
}

// forbid ends the trace that a process is or will be in, its own or that of an ancestor,
// as a guard forbids what the process has become.
func (cam *campaign) forbid(f found) {
	for _, t := range cam.traces {
		own := t.id == f.ID
		isIn := f.TracedByUs && t.doc.Culprit.Strace == f.TracerPID
		willBeIn := own && (f.TracerPID == 0 || f.TracedByUs && t.state.isStarting())
		if !isIn && !willBeIn {
			continue
		}
		// The other processes of the trace may be traced again, by a strace that does
		// not follow the forbidden child.
		t.again = t.again || !own
		t.detach(becameForbidden(*f.Forbidden))
	}
}

// trace starts a strace of a process.
func (c *Controller) trace(cam *campaign, f found) {
	cam.programs.wanted[f.ID] = true
	cam.unmiss(f.ID)
	cam.budget.started++
	c.running++
	t := newTrace(cam, f, command(c.strace, cam.budget.current(), f.ID.PID))
	cam.traces[f.ID] = t
	run := tracer.New(
		tracer.Tools{Strace: c.strace.Path, Files: c.recorder, Spawner: c.spawner, Guard: c.guardInForce(), FS: c.fs, Users: c.users},
		tracer.Job{ID: f.ID, Trace: t.doc, Hit: t.hit, Held: f.hold != 0, Bound: int64(c.cfg.TraceBytes)})
	t.strace = run
	c.tracers.Go(func() { run.Run(traceOutput{t, c.send}) })
}

func newTrace(cam *campaign, f found, command []string) *trace {
	now := time.Now()
	t := &trace{campaign: cam, id: f.ID, hit: cam.senders.hit(f.ID), foundAt: f.At, program: sighting{f.At, f.hold != 0}}
	if f.hold != 0 {
		t.hold(f.hold, f.At)
	}
	t.doc = event.Trace{
		Timestamp: now,
		Event:     event.Meta{ID: event.NewID(), Kind: "event", Action: event.ActionTrace, Start: &now},
		User:      cam.doc.User,
		Process:   event.Process{PID: f.ID.PID, EntityID: f.ID.String(), Start: proc.StartTime(f.ID.Start)},
		Culprit: event.TraceDetail{
			Capture: event.Reference{ID: cam.doc.Event.ID},
			State:   event.StateRunning,
			FoundBy: f.How,
			Command: command,
		},
	}
	f.Program.Update(&t.doc.Process)
	if t.hit != nil {
		t.doc.Rule = &t.hit.Rule
		t.doc.Culprit.Hit = &event.Reference{ID: t.hit.Event.ID}
	}
	return t
}

// miss counts a process that is not traced, and logs the first of each reason.
func (c *Controller) miss(cam *campaign, id proc.ID, m event.Missed) {
	if cam.miss(id, m) {
		c.log.Info("not traced", cam.logAttrs(), slog.Int("pid", m.PID), slog.String("command_line", m.CommandLine),
			slog.String("because", words.Untraced(m.Reason)))
	}
}

// letGo makes the gate end holds.
func (c *Controller) letGo(holds ...uint64) {
	for _, hold := range holds {
		if hold != 0 {
			c.gate.Go(hold)
		}
	}
}

// command is strace and its arguments for one process, at a level.
func command(p strace.Program, l config.Level, pid int) []string {
	return p.Command(strace.Options{Strings: l.Strings, Syscalls: l.Syscalls, Stacks: l.Stacks}, pid)
}
