package capture

import (
	"log/slog"
	"slices"
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
	hold uint64 // the number of its hold, by the gate or the kernel; 0: it is not held
	gone bool   // it has ended since

	cgroup uint64 // of one that the kernel holds
}

// isComing reports whether the gate holds the process in its execve: it is about to become its
// program.
func (m found) isComing() bool { return m.hold != 0 && m.How == event.FoundGate }

// frozenSince says that the process stands still since it sent the packet of a hit, or is nil.
func (c *Controller) frozenSince(m found, hit *event.Hit) *tracer.Frozen {
	if m.How != event.FoundPacket || hit == nil || hit.Culprit.Sent == nil {
		return nil
	}
	return &tracer.Frozen{
		TID: hit.Culprit.Sent.TID, Since: m.At, Until: m.At.Add(c.cfg.GateDeadline),
		Left: func() { c.stops.Left(m.ID, m.hold) },
	}
}

// held says that a process is held at its start, and which containers it is in. The gate and the kernel
// only know its user.
type held struct {
	found
	within []string
}

// handle lets a process go on at once that belongs to no capture: one of the same user in another container.
func (m held) handle(c *Controller) {
	cam := c.campaigns.of(m.UID, m.within)
	if cam == nil {
		c.leave(m.found)
		c.letGo(m.hold)
		return
	}
	m.Owner = cam.owner
	m.found.handle(c)
}

func (m found) handle(c *Controller) {
	cam := c.campaigns[m.Owner]
	if cam == nil || c.stopping {
		c.letGo(m.hold)
		return
	}
	if other := c.campaigns.tracing(m.ID); other != nil && other != cam {
		c.foundAgain(other, m)
		m.TracedByUs = true
		cam.seen(m.Process)
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
		why = cam.refuses(m.ID, c.campaigns.hasRoom(cam, c.running, c.cfg.Concurrent), c.cfg.Concurrent)
	}
	if why == nil {
		c.trace(cam, m)
		return
	}
	c.leave(m)
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
	if t == nil { // it is in the trace of an ancestor, or has ended since
		if late := cam.isLate(f); late != nil {
			late.doc.Culprit.FromStart = true
			c.recorder.Trace(late.doc)
		}
		c.letGo(f.hold)
		return
	}
	switch {
	case f.hold == 0:
	case f.Forbidden != nil:
		t.holds.end = append(t.holds.end, f.hold)
	default:
		if !t.hold(f) {
			c.letGo(f.hold)
		}
		t.checkStart(c.cfg.GateDeadline)
	}
	if f.wasTracedAtStart() {
		t.doc.Culprit.FromStart = true
	}
	if t.becomes(f) && t.isKnown() {
		c.recorder.Trace(t.doc)
	}
}

// wasTracedAtStart reports whether the gate says that a strace of ours was attached before the
// execve.
func (f found) wasTracedAtStart() bool { return f.How == event.FoundGate && f.TracedByUs }

// mayBeLate remembers a trace that has ended, if what the gate saw of its process may still
// change it: on a busy machine that can come after the end of a short-lived program.
func (cam *campaign) mayBeLate(t *trace) {
	const most = 100
	if t.doc.Culprit.FromStart {
		return
	}
	if cam.late = append(cam.late, t); len(cam.late) > most {
		cam.late = slices.Delete(cam.late, 0, 1)
	}
}

// isLate returns the trace that has ended and shows a start, as the gate now says, or nil.
func (cam *campaign) isLate(f found) *trace {
	i := slices.IndexFunc(cam.late, func(t *trace) bool { return t.id == f.ID })
	if i < 0 || !f.wasTracedAtStart() {
		return nil
	}
	t := cam.late[i]
	cam.late = slices.Delete(cam.late, i, i+1)
	return t
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
	tid := c.fs.Lead(f.ID.PID)
	t := newTrace(cam, f, command(c.strace, cam.budget.current(), tid))
	cam.traces[f.ID] = t
	run := tracer.New(
		tracer.Tools{Strace: c.strace.Path, Files: c.recorder, Spawner: c.spawner, Guard: c.guardInForce(), FS: c.fs, Users: c.users, Containers: c.containers, Snapshots: c.snapshot},
		tracer.Job{
			ID: f.ID, TID: tid, Trace: t.doc, Hit: t.hit, Held: f.isComing(), Bound: int64(c.cfg.TraceBytes),
			Stopped: c.stops.Claim(f.ID), StoppedFor: c.cfg.GateDeadline, Frozen: c.frozenSince(f, t.hit),
		})
	t.strace = run
	c.tracers.Go(func() { run.Run(traceOutput{t, c.send}) })
}

func newTrace(cam *campaign, f found, command []string) *trace {
	now := time.Now()
	t := &trace{campaign: cam, id: f.ID, hit: cam.senders.hit(f.ID), foundAt: f.At, program: sighting{f.At, f.isComing()}}
	if f.hold != 0 {
		t.hold(f)
	}
	t.doc = event.Trace{
		Timestamp: now,
		Event:     event.Meta{ID: event.NewID(), Kind: "event", Action: event.ActionTrace, Start: &now},
		User:      cam.user(f.UID),
		Process:   event.Process{PID: f.ID.PID, EntityID: f.ID.String(), Start: proc.StartTime(f.ID.Start)},
		Place:     cam.doc.Place, // if it has ended before anybody can look
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

// letGo ends holds of a process that is not traced by a strace of its own.
func (c *Controller) letGo(holds ...uint64) { c.endHolds(event.WentOnLetGo, holds) }

// endHolds ends holds: those of the kernel by itself, the others by the gate.
func (c *Controller) endHolds(why event.WentOnCode, holds []uint64) {
	for _, hold := range holds {
		switch {
		case hold == 0:
		case c.stops.Holds(hold):
			c.goOn(hold, why)
		default:
			c.gate.Go(hold)
		}
	}
}

// command is strace and its arguments for one process, at a level.
func command(p strace.Program, l config.Level, pid int) []string {
	return p.Command(strace.Options{Strings: l.Strings, Syscalls: l.Syscalls, Stacks: l.Stacks}, pid)
}
