package capture

import (
	"time"

	"culprit/capture/finder"
	"culprit/internal/event"
	"culprit/internal/proc"
)

// maxPrograms bounds the programs that a capture lists. More are only counted.
const maxPrograms = 100_000

// maxPast bounds the processes that are remembered after their end.
const maxPast = 4096

// programs is the table of the processes of a campaign's user.
type programs struct {
	alive map[int]*life // by PID
	// changed are those that the recorder has yet to be told of.
	changed []event.Program
	// wanted are the processes that a strace was started for. They stay in it for a while
	// after their end, so that late news of them does not start another; past are the
	// processes that ended last, wanted or not.
	wanted map[proc.ID]bool
	past   []proc.ID
}

// life is a process of the table that has not ended.
type life struct {
	id  proc.ID
	doc event.Program
}

// of returns the life of a process, or nil.
func (p *programs) of(id proc.ID) *life {
	if l := p.alive[id.PID]; l != nil && l.id == id {
		return l
	}
	return nil
}

// end notes the end of a process.
func (p *programs) end(l *life, at time.Time, code *int) {
	l.doc.Event.Finish(at)
	l.doc.Process.ExitCode = code
	p.changed = append(p.changed, l.doc)
	delete(p.alive, l.id.PID)
	p.past = append(p.past, l.id)
	if len(p.past) > maxPast {
		delete(p.wanted, p.past[0])
		p.past = p.past[1:]
	}
}

// exited notes that a process has ended, if it is in the table.
func (p *programs) exited(e finder.Exit) {
	if l := p.alive[e.PID]; l != nil {
		p.end(l, e.At, &e.Code)
	}
}

// onlyAlive notes the end of all processes that are not alive any more, as we may have
// missed some ends.
func (p *programs) onlyAlive(alive map[int]bool, at time.Time) {
	for pid, l := range p.alive {
		if !alive[pid] && l.doc.Timestamp.Before(at) {
			p.end(l, at, nil)
		}
	}
}

// leave notes the processes that are still alive when the campaign ends.
func (p *programs) leave() {
	for _, l := range p.alive {
		p.changed = append(p.changed, l.doc)
	}
	clear(p.alive)
}

// traced notes that a process has a trace.
func (p *programs) traced(id proc.ID, trace string) {
	if l := p.of(id); l != nil {
		d := &l.doc.Culprit
		d.Traced, d.Trace, d.Reason = true, &event.Reference{ID: trace}, nil
	}
}

// became notes which program a process was in the end.
func (p *programs) became(id proc.ID, is proc.Program) {
	if l := p.of(id); l != nil {
		is.Set(&l.doc.Process)
	}
}

// seen notes that a process was found, perhaps not for the first time.
func (cam *campaign) seen(f finder.Process) {
	l := cam.programs.alive[f.ID.PID]
	if l != nil && l.id != f.ID {
		cam.programs.end(l, f.At, nil) // nobody told us of its end
		l = nil
	}
	if l == nil {
		cam.doc.Culprit.Programs++
		cam.dirty = true
		if cam.doc.Culprit.Programs > maxPrograms {
			cam.doc.Culprit.Unlisted++
			return
		}
		start := proc.StartTime(f.ID.Start)
		l = &life{id: f.ID, doc: event.Program{
			Timestamp: f.At,
			Event:     event.Meta{ID: event.NewID(), Kind: "event", Action: event.ActionProgram, Start: &start},
			User:      cam.user(f.UID),
			Process:   event.Process{PID: f.ID.PID, EntityID: f.ID.String(), Start: start},
			Culprit:   event.ProgramDetail{Capture: event.Reference{ID: cam.doc.Event.ID}, FoundBy: f.How},
		}}
		cam.programs.alive[f.ID.PID] = l
	}
	f.Program.Update(&l.doc.Process)
	l.doc.Process.Parent = f.Parent
	if d := &l.doc.Culprit; f.TracedByUs && !d.Traced {
		d.Traced, d.FoundBy, d.Reason = true, event.FoundDescendant, nil
	}
}
