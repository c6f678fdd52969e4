package capture

import (
	"time"

	"culprit/internal/event"
	"culprit/internal/proc"
)

// maxPrograms bounds the programs that a capture lists. More are only counted.
const maxPrograms = 100_000

// maxPast is how many processes that have ended are remembered.
const maxPast = 4096

// programs is the table of who is alive under the UID of a capture, by PID. What
// has ended has gone to the recorder.
type programs struct {
	alive map[int]*life
	// changed holds those that the recorder has to be told of.
	changed []event.Program
}

// life is one of them.
type life struct {
	id  proc.ID
	doc event.Program
}

// program notes that a process was found, perhaps not for the first time.
func (c *capture) program(f found) {
	p := c.programs.alive[f.ID.PID]
	if p != nil && p.id != f.ID {
		c.gone(p, f.At, nil) // its end was not told
		p = nil
	}
	if p == nil {
		c.doc.Culprit.Programs++
		c.dirty = true
		if c.doc.Culprit.Programs > maxPrograms {
			c.doc.Culprit.Unlisted++
			return
		}
		start := proc.StartTime(f.ID.Start)
		p = &life{id: f.ID, doc: event.Program{
			Timestamp: f.At,
			Event:     event.Meta{ID: event.NewID(), Kind: "event", Action: event.ActionProgram, Start: &start},
			User:      c.doc.User,
			Process:   event.Process{PID: f.ID.PID, EntityID: f.ID.String(), Start: start},
			Culprit:   event.ProgramDetail{Capture: event.Reference{ID: c.doc.Event.ID}, FoundBy: f.How},
		}}
		c.programs.alive[f.ID.PID] = p
	}
	f.Program.Update(&p.doc.Process)
	p.doc.Process.Parent = f.Parent
	if f.Tracer.Ours && !p.doc.Culprit.Traced {
		p.doc.Culprit.Traced, p.doc.Culprit.FoundBy, p.doc.Culprit.Reason = true, event.FoundDescendant, nil
	}
}

// traced notes that a process has a trace.
func (c *capture) traced(id proc.ID, trace string) {
	if p := c.programs.alive[id.PID]; p != nil && p.id == id {
		p.doc.Culprit.Traced, p.doc.Culprit.Trace, p.doc.Culprit.Reason = true, &event.Reference{ID: trace}, nil
	}
}

// became notes what program a process was in the end.
func (c *capture) became(id proc.ID, is program) {
	if p := c.programs.alive[id.PID]; p != nil && p.id == id {
		p.doc.Process.Name, p.doc.Process.Executable, p.doc.Process.CommandLine = is.name, is.executable, is.commandLine
	}
}

// exited notes that a process has ended.
func (c *capture) exited(e exited) {
	if p := c.programs.alive[e.PID]; p != nil {
		code := e.Code
		c.gone(p, e.At, &code)
	}
}

// onlyAlive notes the end of all that are not alive any more, after ends may have
// been missed.
func (c *capture) onlyAlive(alive map[int]bool, at time.Time) {
	for pid, p := range c.programs.alive {
		if !alive[pid] && p.doc.Timestamp.Before(at) {
			c.gone(p, at, nil)
		}
	}
}

func (c *capture) gone(p *life, at time.Time, code *int) {
	p.doc.Event.Finish(at)
	p.doc.Process.ExitCode = code
	c.programs.changed = append(c.programs.changed, p.doc)
	delete(c.programs.alive, p.id.PID)
	// News of it may still be on their way: it is not to be found anew by them.
	c.past = append(c.past, p.id)
	if len(c.past) > maxPast {
		delete(c.known, c.past[0])
		c.past = c.past[1:]
	}
}

// leave notes those that are still alive when the capture ends.
func (c *capture) leave() {
	for _, p := range c.programs.alive {
		c.programs.changed = append(c.programs.changed, p.doc)
	}
	clear(c.programs.alive)
}
