package capture

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"time"

	"culprit/capture/finder"
	"culprit/internal/config"
	"culprit/internal/event"
	"culprit/internal/proc"
)

// campaign is one capture. Its methods decide, and change nothing else; the [Controller]
// does what follows for others.
type campaign struct {
	owner    Owner
	doc      event.Capture
	budget   budget
	window   window
	search   search
	senders  senders
	missed   missed
	programs programs
	traces   map[proc.ID]*trace // whose strace has not ended
	late     []*trace           // the last that ended and do not say that they show a start
	gated    bool               // the gate was told to hold the programs of the user
	dirty    bool               // it has changed since the recorder was told
	closed   bool               // it was ended from outside, for good
}

func newCampaign(owner Owner, user event.User, scope string, levels []config.Level, linger time.Duration, now time.Time) *campaign {
	return &campaign{
		owner: owner,
		doc: event.Capture{
			Timestamp: now,
			Event:     event.Meta{ID: event.NewID(), Kind: "event", Action: event.ActionCapture, Start: &now},
			User:      user,
			Culprit:   event.CaptureDetail{State: event.StateRunning, Scope: scope, Anywhere: owner.Container == finder.Anywhere, Level: 1, Missed: event.MissedCounts{}},
		},
		budget:   budget{levels: levels},
		window:   window{now.Add(levels[0].Window), linger},
		senders:  senders{first: map[proc.ID]*event.Hit{}},
		missed:   missed{map[proc.ID]event.UntracedCode{}, map[event.UntracedCode]bool{}},
		programs: programs{alive: map[int]*life{}, wanted: map[proc.ID]bool{}},
		traces:   map[proc.ID]*trace{},
	}
}

// hit counts a hit, remembers the processes that sent it, raises the level if there were
// enough hits, and starts the window anew. It reports whether it raised the level, and
// whether a sender is new.
func (cam *campaign) hit(h *event.Hit, senders []proc.ID, now time.Time) (raised, newSender bool) {
	d := &cam.doc.Culprit
	d.Hits++
	if d.FirstHit == nil {
		d.FirstHit = &event.Reference{ID: h.Event.ID}
		cam.doc.Rule = &h.Rule
	}
	if raised = cam.budget.raise(d.Hits); raised {
		d.Level = cam.budget.level + 1
		d.Raised = append(d.Raised, event.Raise{Timestamp: now, Level: d.Level})
	}
	added := cam.senders.add(h, senders)
	for _, id := range added {
		cam.search.first = append(cam.search.first, id.PID)
	}
	// When nothing more can be traced, a hit does not put off the end: the next capture
	// can trace again.
	if !cam.budget.exhausted() {
		cam.window.deadline = now.Add(cam.budget.current().Window)
	}
	return raised, len(added) > 0
}

// update sets the state that the campaign has now.
func (cam *campaign) update(now time.Time) {
	d := &cam.doc.Culprit
	switch {
	case cam.closed:
	case cam.window.isUp(now):
		d.EndedBecause = &event.Ended{Code: event.EndedTime}
	case cam.budget.exhausted():
		// This is the highest level: no hit can allow more.
		d.EndedBecause = &event.Ended{Code: event.EndedProcesses, Detail: strconv.Itoa(cam.budget.started)}
	default:
		d.State, d.EndedBecause = event.StateRunning, nil
		return
	}
	d.State = event.StateDraining
	if len(cam.traces) == 0 {
		d.State = event.StateEnded
		cam.doc.Event.Finish(now)
	}
	if cam.closed || cam.window.isOver(now) {
		for _, t := range cam.traces {
			t.detach(*d.EndedBecause)
		}
	}
}

// close ends the campaign from outside.
func (cam *campaign) close(code event.EndedCode, now time.Time) {
	cam.closed = true
	cam.doc.Culprit.EndedBecause = &event.Ended{Code: code}
	cam.update(now)
}

func (cam *campaign) isRunning() bool { return cam.doc.Culprit.State == event.StateRunning }

func (cam *campaign) hasEnded() bool { return cam.doc.Culprit.State == event.StateEnded }

// next is when the campaign has to be updated even if nothing happens.
func (cam *campaign) next(now time.Time) time.Time {
	next := cam.window.next(now)
	if again := cam.search.next(); cam.search.starved && again.After(now) && again.Before(next) {
		next = again
	}
	return next
}

// refuses says why a process that was found is not traced now, or nil. A known sender is
// what we are here for: it is traced even if the level allows no more processes. hasRoom says whether
// one of so many concurrent straces is free.
func (cam *campaign) refuses(id proc.ID, hasRoom bool, concurrent int) *event.Untraced {
	switch {
	case !cam.isRunning():
		return &event.Untraced{Code: event.UntracedEnded, Detail: string(cam.doc.Culprit.EndedBecause.Code)}
	case cam.budget.usedUp() && cam.senders.first[id] == nil:
		return &event.Untraced{Code: event.UntracedLevel, Detail: fmt.Sprintf("%d allows %d", cam.budget.level+1, cam.budget.current().Processes)}
	case !hasRoom:
		cam.search.starved = true
		return &event.Untraced{Code: event.UntracedConcurrent, Detail: strconv.Itoa(concurrent)}
	}
	return nil
}

// wantsGate reports whether the gate is to hold programs of the user. In process scope
// strace follows the tree. Otherwise it is while more may be traced, or while a strace is
// not attached yet, as its process may be about to start a program.
func (cam *campaign) wantsGate() bool {
	if cam.doc.Culprit.Scope != config.ScopeUser {
		return false
	}
	if cam.isRunning() && !cam.budget.usedUp() {
		return true
	}
	for _, t := range cam.traces {
		if t.state.isStarting() {
			return true
		}
	}
	return false
}

// snapshot copies the document, for others to keep.
func (cam *campaign) snapshot() event.Capture {
	doc := cam.doc
	doc.Culprit.Missed = maps.Clone(doc.Culprit.Missed)
	doc.Culprit.Examples = slices.Clone(doc.Culprit.Examples)
	doc.Culprit.Raised = slices.Clone(doc.Culprit.Raised)
	return doc
}

// logAttrs is what each log line about the campaign says of it.
func (cam *campaign) logAttrs() slog.Attr {
	d := &cam.doc.Culprit
	return slog.GroupAttrs("",
		slog.Group("user", "id", cam.doc.User.ID, "name", cam.doc.User.Name),
		cam.container(),
		slog.Group("culprit", "capture", cam.doc.Event.ID, "scope", d.Scope, "level", d.Level, "hits", d.Hits, "traces", d.Traces))
}

// user is whose a process is. In a capture of all users of a container that is one of them, and nobody looks its
// name up while we decide.
func (cam *campaign) user(uid uint32) event.User {
	if cam.owner.UID != finder.AnyUser {
		return cam.doc.User
	}
	return event.User{ID: strconv.FormatUint(uint64(uid), 10)}
}

// container says in the log which container is captured, if it is one.
func (cam *campaign) container() slog.Attr {
	c := cam.doc.Container
	if c == nil {
		return slog.Attr{}
	}
	return slog.Group("container", "id", c.ID, "name", c.Name)
}
