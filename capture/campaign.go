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

// campaign is one capture. Its methods decide, and change nothing but the campaign; what
// follows from that for others is done by the [Controller].
type campaign struct {
	doc      event.Capture
	budget   budget
	window   window
	search   search
	senders  senders
	missed   missed
	programs programs
	traces   map[proc.ID]*trace // whose strace has not ended
	gated    bool               // as the gate was last told
	dirty    bool               // changed since the recorder was told
	closed   bool               // ended from outside: nothing changes that any more
}

func newCampaign(user event.User, scope string, levels []config.Level, linger time.Duration, now time.Time) *campaign {
	return &campaign{
		doc: event.Capture{
			Timestamp: now,
			Event:     event.Meta{ID: event.NewID(), Kind: "event", Action: event.ActionCapture, Start: &now},
			User:      user,
			Culprit:   event.CaptureDetail{State: event.StateRunning, Scope: scope, Level: 1, Missed: event.MissedCounts{}},
		},
		budget:   budget{levels: levels},
		window:   window{now.Add(levels[0].Window), linger},
		senders:  senders{first: map[proc.ID]*event.Hit{}},
		missed:   missed{map[proc.ID]event.UntracedCode{}, map[event.UntracedCode]bool{}},
		programs: programs{alive: map[int]*life{}, wanted: map[proc.ID]bool{}},
		traces:   map[proc.ID]*trace{},
	}
}

// hit counts a hit, remembers the processes that sent it, raises the level if it is
// time to, and starts the window anew. It reports whether the level was raised, and
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
	// When nothing more can be traced, hits do not put off the end: the next
	// capture can trace again.
	if !cam.budget.exhausted() {
		cam.window.deadline = now.Add(cam.budget.current().Window)
	}
	return raised, len(added) > 0
}

// update sets the state that the moment calls for.
func (cam *campaign) update(now time.Time) {
	d := &cam.doc.Culprit
	switch {
	case cam.closed:
	case cam.window.isUp(now):
		d.EndedBecause = &event.Ended{Code: event.EndedTime}
	case cam.budget.exhausted():
		// A higher level would allow more; at the highest this is the end.
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

// next is when the campaign has to be looked at again though nothing happens.
func (cam *campaign) next(now time.Time) time.Time {
	next := cam.window.next(now)
	if again := cam.search.next(); again.After(now) && again.Before(next) {
		next = again
	}
	return next
}

// refuses says why a process that was found is not traced now, or nil. A process that is
// known to have sent a packet is what we are here for: it is traced although the level's
// processes are used up.
func (cam *campaign) refuses(id proc.ID, running, concurrent int) *event.Untraced {
	switch {
	case !cam.isRunning():
		return &event.Untraced{Code: event.UntracedEnded, Detail: string(cam.doc.Culprit.EndedBecause.Code)}
	case cam.budget.usedUp() && !cam.senders.has(id):
		return &event.Untraced{Code: event.UntracedLevel, Detail: fmt.Sprintf("%d allows %d", cam.budget.level+1, cam.budget.current().Processes)}
	// One capture leaves a quarter to others.
	case running >= concurrent, len(cam.traces) >= concurrent-concurrent/4:
		cam.search.starved = true
		return &event.Untraced{Code: event.UntracedConcurrent, Detail: strconv.Itoa(concurrent)}
	}
	return nil
}

// rescan decides whether to look again for processes that found no free strace.
func (cam *campaign) rescan(now time.Time, free bool) bool {
	return free && cam.isRunning() && cam.search.rescan(now)
}

// target is what the finder is to look for.
func (cam *campaign) target() finder.Target {
	if cam.doc.Culprit.Scope == config.ScopeProcess {
		return cam.search.target(cam.senders.roots())
	}
	return cam.search.target(nil)
}

// wantsGate reports whether the gate is to hold programs of the UID: whole users only
// (in process scope strace follows the tree), and only while more may be traced, or
// a strace is not yet on a process that may be about to execute a program.
func (cam *campaign) wantsGate() bool {
	if cam.doc.Culprit.Scope != config.ScopeUser {
		return false
	}
	return cam.isRunning() && !cam.budget.usedUp() || cam.isAttaching()
}

// isAttaching reports whether a strace is not on its process yet.
func (cam *campaign) isAttaching() bool {
	for _, t := range cam.traces {
		if t.state.isStarting() {
			return true
		}
	}
	return false
}

// snapshot copies the document for others to keep.
func (cam *campaign) snapshot() event.Capture {
	doc := cam.doc
	doc.Culprit.Missed = maps.Clone(doc.Culprit.Missed)
	doc.Culprit.Examples = slices.Clone(doc.Culprit.Examples)
	doc.Culprit.Raised = slices.Clone(doc.Culprit.Raised)
	return doc
}

// logAttrs are what every log line about a capture says of it.
func (cam *campaign) logAttrs() slog.Attr {
	d := &cam.doc.Culprit
	return slog.GroupAttrs("",
		slog.Group("user", "id", cam.doc.User.ID, "name", cam.doc.User.Name),
		slog.Group("culprit", "capture", cam.doc.Event.ID, "scope", d.Scope, "level", d.Level, "hits", d.Hits, "traces", d.Traces))
}
