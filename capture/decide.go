package capture

import (
	"log/slog"
	"time"

	"culprit/internal/event"
	"culprit/internal/proc"
	"culprit/internal/words"
)

// What the controller decides about processes: who is traced, and what becomes of it.

// found decides about a process.
func (k *Controller) found(f found) {
	c := k.captures[f.UID]
	if c == nil || k.stopping {
		k.letGo(f.hold)
		return
	}
	c.program(f)
	if f.Tracer.Ours || c.known[f.ID] {
		k.foundAgain(c, f)
		return
	}
	why := f.Forbidden
	switch {
	case why != nil:
	case f.gone:
		why = &event.Untraced{Code: event.UntracedGone}
	default:
		why = c.refuses(f.ID, k.running, k.cfg.Concurrent)
	}
	if why != nil {
		k.letGo(f.hold)
		if _, seen := c.seen[f.ID]; !seen {
			k.meter.Untraced(why.Code)
		}
		k.miss(c, f.ID, event.Missed{PID: f.ID.PID, CommandLine: f.Program.CommandLine, Reason: *why})
		return
	}
	c.known[f.ID] = true
	c.unmiss(f.ID)
	c.started++
	c.attaching++
	k.running++
	t := k.newTracer(c, f)
	c.tracing[t] = &tracing{doc: t.trace, found: f.At, looked: f.At, coming: t.held}
	if t.held {
		c.tracing[t].holds, c.tracing[t].held = []uint64{f.hold}, f.At
	}
	k.of[t] = c
	k.tracers.Go(func() { t.run(k) })
}

// foundAgain looks at a process that a strace of ours is on, or soon will be: it
// may have become another program, or one that must not be traced.
func (k *Controller) foundAgain(c *capture, f found) {
	hold := f.hold
	for t, tr := range c.tracing {
		// A guard forbids it, now that we see what it has become.
		its := t.id == f.ID && (f.Tracer.PID == 0 || f.Tracer.Ours && tr.attached.IsZero())
		if f.Forbidden != nil && (f.Tracer.Ours && tr.doc.Culprit.Strace == f.Tracer.PID || its) {
			// What else is in the trace may be traced again by another strace, which
			// does not follow the child that is forbidden.
			tr.again = tr.again || t.id != f.ID
			t.detach(becameForbidden(*f.Forbidden))
		}
		if t.id != f.ID {
			continue
		}
		if hold != 0 && f.Forbidden != nil {
			// It goes on when its strace has let go, see ended.
			tr.forbidden = append(tr.forbidden, hold)
			hold = 0
		}
		if hold != 0 {
			tr.held = f.At
			if tr.attached.IsZero() {
				tr.holds = append(tr.holds, hold)
				hold = 0
			}
			k.fromStart(tr)
		}
		if f.How == event.FoundGate && f.Tracer.Ours {
			tr.doc.Culprit.FromStart = true // strace was on it in its execve
		}
		// What is held is about to become something, whenever it was found.
		news := f.How == event.FoundGate && f.hold != 0 ||
			(f.How == event.FoundExec || f.How == event.FoundGate) && f.At.After(tr.looked)
		if news && f.Program.Executable != "" {
			tr.looked, tr.coming = f.At, f.How == event.FoundGate
			f.Program.Update(&tr.doc.Process)
			if !tr.attached.IsZero() && tr.described {
				k.recorder.Trace(tr.doc)
			}
		}
	}
	k.letGo(hold)
}

// miss counts a process that is not traced. The first of each reason is logged.
func (k *Controller) miss(c *capture, id proc.ID, m event.Missed) {
	if c.miss(id, m) {
		k.log.Info("not traced", c.logAttrs(), slog.Int("pid", m.PID), slog.String("command_line", m.CommandLine),
			slog.String("because", words.Untraced(m.Reason)))
	}
}

// fromStart notes whether strace was on a held process before its hold was over.
func (k *Controller) fromStart(tr *tracing) {
	if !tr.held.IsZero() && !tr.attached.IsZero() && tr.attached.Before(tr.held.Add(k.cfg.GateDeadline)) {
		tr.doc.Culprit.FromStart = true
	}
}

// letGo lets the gate let a process go on.
func (k *Controller) letGo(holds ...uint64) {
	for _, hold := range holds {
		if hold != 0 {
			k.gate.Go(hold)
		}
	}
}

func (k *Controller) newTracer(c *capture, f found) *tracer {
	now := time.Now()
	t := &tracer{
		id: f.ID, hit: c.trigger(f.ID), held: f.hold != 0, bound: int64(k.cfg.TraceBytes),
		stop: make(chan event.Ended, 1),
	}
	t.trace = event.Trace{
		Timestamp: now,
		Event:     event.Meta{ID: event.NewID(), Kind: "event", Action: event.ActionTrace, Start: &now},
		User:      c.doc.User,
		Process: event.Process{
			PID: f.ID.PID, EntityID: f.ID.String(), Start: proc.StartTime(f.ID.Start),
			Name: f.Program.Name, Executable: f.Program.Executable, CommandLine: f.Program.CommandLine,
		},
		Culprit: event.TraceDetail{
			Capture: event.Reference{ID: c.doc.Event.ID},
			State:   event.StateRunning,
			FoundBy: f.How,
			Command: command(k.strace, c.levels[c.level], f.ID.PID),
		},
	}
	if t.hit != nil {
		t.trace.Rule = &t.hit.Rule
		t.trace.Culprit.Hit = &event.Reference{ID: t.hit.Event.ID}
	}
	return t
}

// attached notes that a strace is on its process, and lets it go on.
func (k *Controller) attached(m traceAttached) {
	c := k.of[m.t]
	tr := c.tracing[m.t]
	k.letGo(tr.holds...)
	tr.holds, tr.attached = nil, m.at
	c.attaching--
	d := &tr.doc.Culprit
	d.Strace = m.strace
	d.AttachMS = milliseconds(m.at.Sub(tr.found))
	d.AgeMS = max(0, milliseconds(m.at.Sub(tr.doc.Process.Start)))
	k.fromStart(tr)
	k.measure(tr, m)
	c.doc.Culprit.Traces++
	c.traced(m.t.id, tr.doc.Event.ID)
	c.dirty = true
	k.announce(c, tr)
}

// described notes what the process is.
func (k *Controller) described(m traceDescribed) {
	c := k.of[m.t]
	tr := c.tracing[m.t]
	p := tr.doc.Process
	tr.doc.Process, tr.doc.Container, tr.doc.File = m.process, m.container, m.file
	// It has become another program since, or is about to.
	if tr.looked.After(m.at) || tr.coming && m.process.Executable != p.Executable {
		tr.doc.Process.Name, tr.doc.Process.Executable, tr.doc.Process.CommandLine = p.Name, p.Executable, p.CommandLine
	}
	tr.described = true
	k.announce(c, tr)
}

// announce makes a trace known when all is known that there is at its beginning.
func (k *Controller) announce(c *capture, tr *tracing) {
	if tr.attached.IsZero() || !tr.described {
		return
	}
	k.recorder.Trace(tr.doc)
	k.log.Info("tracing", c.logAttrs(), slog.Int("pid", tr.doc.Process.PID), slog.String("command_line", tr.doc.Process.CommandLine))
}

// ended notes how a strace has ended.
func (k *Controller) ended(m traceEnded) {
	c := k.of[m.t]
	tr := c.tracing[m.t]
	k.letGo(tr.holds...)
	k.letGo(tr.forbidden...)
	if tr.again {
		delete(c.known, m.t.id)
		c.scans++
		k.watch()
	}
	if tr.attached.IsZero() {
		c.attaching--
	}
	delete(c.tracing, m.t)
	delete(k.of, m.t)
	k.running--
	c.dirty = true
	if m.refused != nil {
		c.started-- // another process may have its place
		delete(c.known, m.t.id)
		k.meter.AttachFailed(m.refused.Reason.Code)
		k.miss(c, m.t.id, *m.refused)
		return
	}
	d := &tr.doc.Culprit
	d.State, d.EndedBecause, d.Lost, d.Truncated = event.StateEnded, &m.because, m.lost, m.lost > 0
	tr.doc.Process.ExitCode = m.exitCode
	if p := m.program; p != nil {
		// Its execve is in the trace, and so is all that the program did.
		d.FromStart = true
		tr.doc.Process.Name, tr.doc.Process.Executable, tr.doc.Process.CommandLine = p.name, p.executable, p.commandLine
		c.became(m.t.id, *p)
	}
	tr.doc.File.Size = m.size
	tr.doc.Event.Finish(m.at)
	k.recorder.Trace(tr.doc)
	k.log.Debug("trace ended", c.logAttrs(), slog.Int("pid", m.t.id.PID), slog.String("because", words.TraceEnded(&m.because)))
}

// handle notes that programs were started unseen by the gate. The finder looks for
// them.
func (m gateDown) handle(k *Controller) {
	k.log.Error("the gate failed: until it is back, programs are traced from shortly after their start", "error", m.err)
	for _, c := range k.captures {
		c.doc.Culprit.GateFailures++
		c.dirty = true
		c.scans++
	}
	k.watch()
}
