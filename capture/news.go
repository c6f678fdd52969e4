package capture

import (
	"log/slog"

	"culprit/capture/finder"
	"culprit/capture/tracer"
	"culprit/internal/event"
	"culprit/internal/words"
)

// What the controller learns while a campaign runs: from the finder (what it finds is in
// decide.go) and from the tracers.

// finderOutput passes on what the finder tells.
type finderOutput struct{ send func(message) }

func (o finderOutput) Found(p finder.Process) { o.send(found{Process: p}) }
func (o finderOutput) Exited(e finder.Exit)   { o.send(exited(e)) }
func (o finderOutput) Unseen(uid uint32)      { o.send(unseen{uid}) }
func (o finderOutput) Forbidden(strace int)   { o.send(forbidden{strace}) }
func (o finderOutput) Scanned(s finder.Scan)  { o.send(scanned(s)) }

// exited tells that a process has ended.
type exited finder.Exit

func (m exited) handle(c *Controller) {
	for _, cam := range c.campaigns {
		cam.programs.exited(finder.Exit(m))
	}
}

// unseen tells that a process was gone before it could be looked at.
type unseen struct{ uid uint32 }

func (m unseen) handle(c *Controller) {
	if cam := c.campaigns[m.uid]; cam != nil {
		cam.doc.Culprit.Unseen++
		cam.dirty = true
	}
}

// forbidden tells that a strace of ours must let go of a process that has become a user
// who is never traced.
type forbidden struct{ strace int }

func (m forbidden) handle(c *Controller) {
	for _, cam := range c.campaigns {
		for _, t := range cam.traces {
			if t.doc.Culprit.Strace == m.strace {
				t.detach(event.Ended{Code: event.EndedNeverUsers})
			}
		}
	}
}

// scanned says that all of /proc was looked at.
type scanned finder.Scan

func (m scanned) handle(c *Controller) {
	if m.Overrun {
		c.meter.Overrun()
	}
	for _, cam := range c.campaigns {
		cam.programs.onlyAlive(m.Alive, m.Began)
		if m.Overrun {
			cam.doc.Culprit.Overruns++
			cam.dirty = true
		}
	}
}

// traceOutput passes on what the tracer of a trace tells.
type traceOutput struct {
	trace *trace
	send  func(message)
}

func (o traceOutput) Attached(a tracer.Attachment)   { o.send(traceAttached{o.trace, a}) }
func (o traceOutput) Described(d tracer.Description) { o.send(traceDescribed{o.trace, d}) }
func (o traceOutput) Ended(e tracer.Ending)          { o.send(traceEnded{o.trace, e}) }

// traceAttached tells that strace is on the process of a trace.
type traceAttached struct {
	trace *trace
	tracer.Attachment
}

func (m traceAttached) handle(c *Controller) {
	t, cam := m.trace, m.trace.campaign
	c.letGo(t.attached(m.Attachment)...)
	t.checkStart(c.cfg.GateDeadline)
	c.measure(t)
	cam.doc.Culprit.Traces++
	cam.programs.traced(t.id, t.doc.Event.ID)
	cam.dirty = true
	c.announce(t)
}

// traceDescribed tells what the process of a trace is.
type traceDescribed struct {
	trace *trace
	tracer.Description
}

func (m traceDescribed) handle(c *Controller) {
	m.trace.describe(m.Description)
	c.announce(m.trace)
}

// announce makes a trace known when all is known that there is at its beginning.
func (c *Controller) announce(t *trace) {
	if !t.isKnown() {
		return
	}
	c.recorder.Trace(t.doc)
	c.log.Info("tracing", t.campaign.logAttrs(), slog.Int("pid", t.id.PID), slog.String("command_line", t.doc.Process.CommandLine))
}

// traceEnded tells that the strace of a trace has ended.
type traceEnded struct {
	trace *trace
	tracer.Ending
}

func (m traceEnded) handle(c *Controller) {
	t, cam := m.trace, m.trace.campaign
	delete(cam.traces, t.id)
	c.running--
	cam.dirty = true
	c.letGo(t.holds.attach...)
	c.letGo(t.holds.end...)
	if t.again || m.Refused != nil {
		delete(cam.programs.wanted, t.id) // it may be found anew
	}
	if m.Refused != nil {
		t.on(onFail)
		cam.budget.started-- // another process may have its place
		c.meter.AttachFailed(m.Refused.Reason.Code)
		c.miss(cam, t.id, *m.Refused)
	} else {
		t.on(onEnd)
		t.ended(m.Ending)
		if m.Program != nil {
			cam.programs.became(t.id, *m.Program)
		}
		c.recorder.Trace(t.doc)
		c.log.Debug("trace ended", cam.logAttrs(), slog.Int("pid", t.id.PID), slog.String("because", words.TraceEnded(&m.Because)))
	}
	if t.again {
		cam.search.scans++
		c.aim()
	}
}
