package capture

import (
	"log/slog"

	"culprit/capture/finder"
	"culprit/capture/tracer"
	"culprit/internal/event"
	"culprit/internal/words"
)

// The news of the finder and of the tracers, except what the finder finds: see found.

// finderOutput passes the news of the finder to the controller.
type finderOutput struct{ send func(message) }

func (o finderOutput) Found(p finder.Process) { o.send(found{Process: p}) }
func (o finderOutput) Exited(e finder.Exit)   { o.send(exited(e)) }
func (o finderOutput) Unseen(of Owner)        { o.send(unseen{of}) }
func (o finderOutput) Forbidden(strace int)   { o.send(forbidden{strace}) }
func (o finderOutput) Scanned(s finder.Scan)  { o.send(scanned(s)) }

// exited says that a process has ended.
type exited finder.Exit

func (m exited) handle(c *Controller) {
	for _, cam := range c.campaigns {
		cam.programs.exited(finder.Exit(m))
	}
}

// unseen says that a process was gone before it could be looked at.
type unseen struct{ owner Owner }

func (m unseen) handle(c *Controller) {
	if cam := c.campaigns[m.owner]; cam != nil {
		cam.doc.Culprit.Unseen++
		cam.dirty = true
	}
}

// forbidden says that a process in a trace of ours has become a user who is never traced:
// its strace must detach.
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

// scanned says that all of /proc was scanned.
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

// traceOutput passes the news of a tracer to the controller.
type traceOutput struct {
	trace *trace
	send  func(message)
}

func (o traceOutput) Attached(a tracer.Attachment)   { o.send(traceAttached{o.trace, a}) }
func (o traceOutput) Described(d tracer.Description) { o.send(traceDescribed{o.trace, d}) }
func (o traceOutput) Ended(e tracer.Ending)          { o.send(traceEnded{o.trace, e}) }

// traceAttached says that the strace of a trace is attached.
type traceAttached struct {
	trace *trace
	tracer.Attachment
}

func (m traceAttached) handle(c *Controller) {
	t, cam := m.trace, m.trace.campaign
	c.endHolds(event.WentOnTraced, t.attached(m.Attachment))
	t.checkStart(c.cfg.GateDeadline)
	c.measure(t)
	cam.doc.Culprit.Traces++
	cam.programs.traced(t.id, t.doc.Event.ID)
	cam.dirty = true
	c.announce(t)
}

// traceDescribed says what the process of a trace is.
type traceDescribed struct {
	trace *trace
	tracer.Description
}

func (m traceDescribed) handle(c *Controller) {
	m.trace.describe(m.Description)
	m.trace.checkStart(c.cfg.GateDeadline)
	c.announce(m.trace)
}

// announce makes a trace known, once strace is attached and the process is described.
func (c *Controller) announce(t *trace) {
	if !t.isKnown() {
		return
	}
	c.recorder.Trace(t.doc)
	c.log.Info("tracing", t.campaign.logAttrs(), slog.Int("pid", t.id.PID), slog.String("command_line", t.doc.Process.CommandLine))
}

// traceEnded says that the strace of a trace has ended.
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
		delete(cam.programs.wanted, t.id) // when it is found again, it may be traced
	}
	if m.Refused != nil {
		t.on(onFail)
		cam.budget.started-- // another process may be traced instead
		c.meter.AttachFailed(m.Refused.Reason.Code)
		c.miss(cam, t.id, *m.Refused)
	} else {
		t.on(onEnd)
		t.ended(m.Ending)
		if m.Program != nil {
			cam.programs.became(t.id, *m.Program)
		}
		c.recorder.Trace(t.doc)
		cam.mayBeLate(t)
		c.meter.TraceDropped(m.Lost)
		c.log.Debug("trace ended", cam.logAttrs(), slog.Int("pid", t.id.PID), slog.String("because", words.TraceEnded(&m.Because)))
	}
	if t.again {
		cam.search.scans++
		c.aim()
	}
}
