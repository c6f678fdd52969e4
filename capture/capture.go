// Package capture straces the processes of a UID: a bounded campaign that a hit
// starts and further hits intensify.
//
// One goroutine, the controller's, owns every capture. A finder tells it of
// processes, tracers tell it how their straces fare, and it decides: trace this
// process, leave that one, raise the level, end.
package capture

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"time"

	"culprit/capture/finder"
	"culprit/internal/config"
	"culprit/internal/event"
	"culprit/internal/proc"
)

// Recorder learns what captures do and keeps it. Its methods may be called from
// several goroutines and must not wait for anything slow.
type Recorder interface {
	// Hit is told of each hit, with the capture it started or joined, or why none.
	Hit(*event.Hit)
	// Capture and Trace are told of each new or changed capture and trace.
	Capture(event.Capture)
	Trace(event.Trace)
	// Program is told of each process that lived under a captured UID, at its end or
	// at the end of the capture.
	Program(event.Program)
	// Room returns an error if there is no room for another trace.
	Room() error
	// Create makes the file of a trace, readable by us only, and sets File.Path. What
	// is written to it must not wait for anything but the disk.
	Create(*event.Trace) (io.WriteCloser, error)
}

// maxExamples bounds the missed processes a capture describes, maxSeen those it
// remembers in order to count each only once, and maxSenders the processes whose
// first hit it remembers.
const (
	maxExamples = 20
	maxSeen     = 10_000
	maxSenders  = 1000
)

// rescanEvery is how often at most a capture looks for processes that found no
// free strace.
const rescanEvery = time.Second

// capture is one campaign. Its methods decide and change nothing but itself.
type capture struct {
	doc    event.Capture
	uid    uint32
	levels []config.Level
	level  int // index into levels
	linger time.Duration

	deadline  time.Time // when nothing new is traced any more; later hits move it
	started   int       // straces started, those that did not attach not counted
	known     map[proc.ID]bool
	past      []proc.ID                      // of the known and others, those that have ended last
	seen      map[proc.ID]event.UntracedCode // missed and counted, and why
	told      map[event.UntracedCode]bool    // those that were logged
	tracing   map[*tracer]*tracing
	programs  programs
	lastHit   *event.Hit
	senders   map[proc.ID]*event.Hit // the first hit of each process that is known to have sent one
	first     []int                  // PIDs that the finder is to look at first: all senders, it knows which are new
	starved   bool                   // processes were refused for want of a free strace
	scanned   time.Time              // when it was last looked for those
	scans     int                    // how often the finder was asked to look at everything
	attaching int                    // straces that are not on their process yet
	isGated   bool                   // as the gate was last told
	dirty     bool                   // changed since the recorder was told
	closed    bool                   // ended from outside: nothing changes that any more
	detached  bool                   // its straces were told to let go
}

// tracing is what the controller knows of a tracer that runs.
type tracing struct {
	doc       event.Trace
	found     time.Time // when the process was found
	looked    time.Time // when we last learnt what program it is
	coming    bool      // that is from the gate: what it is about to become
	attached  time.Time // when strace was on it; zero: not yet
	described bool
	holds     []uint64  // of the gate, which wait for strace
	held      time.Time // when the latest of them began
	forbidden []uint64  // of the gate, which wait until strace has let go
	again     bool      // strace had to let go because of a child: look for the process again
}

func newCapture(uid uint32, user event.User, scope string, levels []config.Level, linger time.Duration, now time.Time) *capture {
	c := &capture{
		uid: uid, levels: levels, linger: linger,
		known: map[proc.ID]bool{}, seen: map[proc.ID]event.UntracedCode{}, told: map[event.UntracedCode]bool{}, tracing: map[*tracer]*tracing{}, senders: map[proc.ID]*event.Hit{},
		programs: programs{alive: map[int]*life{}},
		deadline: now.Add(levels[0].Window),
	}
	c.doc = event.Capture{
		Timestamp: now,
		Event:     event.Meta{ID: event.NewID(), Kind: "event", Action: event.ActionCapture, Start: &now},
		User:      user,
		Culprit:   event.CaptureDetail{State: event.StateRunning, Scope: scope, Level: 1, Missed: event.MissedCounts{}},
	}
	return c
}

// hit counts a hit, remembers the processes that sent it, raises the level if it is
// time to, and starts the window anew. It reports whether the level was raised, and
// whether a sender is new.
func (c *capture) hit(h *event.Hit, senders []proc.ID, now time.Time) (raised, newSender bool) {
	c.lastHit = h
	c.doc.Culprit.Hits++
	if c.doc.Culprit.FirstHit == nil {
		c.doc.Culprit.FirstHit = &event.Reference{ID: h.Event.ID}
		c.doc.Rule = &h.Rule
	}
	for c.level+1 < len(c.levels) && c.doc.Culprit.Hits >= c.levels[c.level+1].Hits {
		c.level++
		raised = true
	}
	c.doc.Culprit.Level = c.level + 1
	if raised {
		c.doc.Culprit.Raised = append(c.doc.Culprit.Raised, event.Raise{Timestamp: now, Level: c.level + 1})
	}
	for _, id := range senders {
		if c.senders[id] == nil && len(c.senders) < maxSenders {
			c.senders[id] = h
			c.first = append(c.first, id.PID)
			newSender = true
		}
	}
	// When nothing more can be traced, hits do not put off the end: the next
	// capture can trace again.
	if !c.exhausted() {
		c.deadline = now.Add(c.levels[c.level].Window)
		c.detached = false
	}
	return raised, newSender
}

// exhausted reports whether no hit can make the capture trace more processes.
func (c *capture) exhausted() bool { return c.usedUp() && c.level == len(c.levels)-1 }

// usedUp reports whether the level allows no more processes.
func (c *capture) usedUp() bool { return c.started >= c.levels[c.level].Processes }

// update sets the state that the moment calls for.
func (c *capture) update(now time.Time) {
	d := &c.doc.Culprit
	switch {
	case c.closed:
	case !now.Before(c.deadline):
		d.EndedBecause = &event.Ended{Code: event.EndedTime}
	case c.exhausted():
		// A higher level would allow more; at the highest this is the end.
		d.EndedBecause = &event.Ended{Code: event.EndedProcesses, Detail: strconv.Itoa(c.started)}
	default:
		d.State, d.EndedBecause = event.StateRunning, nil
		return
	}
	d.State = event.StateDraining
	if len(c.tracing) == 0 {
		d.State = event.StateEnded
		c.doc.Event.Finish(now)
	}
	if now.Before(c.deadline.Add(c.linger)) && !c.closed {
		return
	}
	c.detach(*d.EndedBecause)
}

// close ends the capture from outside.
func (c *capture) close(code event.EndedCode, now time.Time) {
	c.closed = true
	c.doc.Culprit.EndedBecause = &event.Ended{Code: code}
	c.update(now)
}

// detach tells the straces to let go, once.
func (c *capture) detach(reason event.Ended) {
	if c.detached {
		return
	}
	c.detached = true
	for t := range c.tracing {
		t.detach(reason)
	}
}

func (c *capture) ended() bool { return c.doc.Culprit.State == event.StateEnded }

// next is when the capture has to be looked at again though nothing happens.
func (c *capture) next(now time.Time) time.Time {
	next := c.deadline
	if !now.Before(next) {
		next = c.deadline.Add(c.linger)
	}
	if again := c.scanned.Add(rescanEvery); c.starved && again.After(now) && again.Before(next) {
		next = again
	}
	return next
}

// trigger returns the hit that a trace of the process belongs to: its own first
// one where it is known to have sent any, otherwise the latest. It is nil in
// captures by hand.
func (c *capture) trigger(id proc.ID) *event.Hit {
	if h := c.senders[id]; h != nil {
		return h
	}
	return c.lastHit
}

// watch is what the finder is to look for.
func (c *capture) watch() finder.Watch {
	w := finder.Watch{Scans: c.scans, First: c.first}
	if c.doc.Culprit.Scope == config.ScopeProcess {
		w.Roots = map[proc.ID]bool{}
		for id := range c.senders {
			w.Roots[id] = true
		}
	}
	return w
}

// gated reports whether the gate is to hold programs of the UID: whole users only
// (in process scope strace follows the tree), and only while more may be traced, or
// a strace is not yet on a process that may be about to execute a program.
func (c *capture) gated() bool {
	if c.doc.Culprit.Scope != config.ScopeUser {
		return false
	}
	return c.doc.Culprit.State == event.StateRunning && !c.usedUp() || c.attaching > 0
}

// snapshot copies the document for others to keep.
func (c *capture) snapshot() event.Capture {
	doc := c.doc
	doc.Culprit.Missed = maps.Clone(doc.Culprit.Missed)
	doc.Culprit.Examples = slices.Clone(doc.Culprit.Examples)
	doc.Culprit.Raised = slices.Clone(doc.Culprit.Raised)
	return doc
}

// refuses says why a process that was found is not traced now, or nil. A process that is
// known to have sent a packet is what we are here for: it is traced although the level's
// processes are used up.
func (c *capture) refuses(id proc.ID, running, concurrent int) *event.Untraced {
	switch {
	case c.doc.Culprit.State != event.StateRunning:
		return &event.Untraced{Code: event.UntracedEnded, Detail: string(c.doc.Culprit.EndedBecause.Code)}
	case c.usedUp() && c.senders[id] == nil:
		return &event.Untraced{Code: event.UntracedLevel, Detail: fmt.Sprintf("%d allows %d", c.level+1, c.levels[c.level].Processes)}
	// One capture leaves a quarter to others.
	case running >= concurrent, len(c.tracing) >= concurrent-concurrent/4:
		c.starved = true
		return &event.Untraced{Code: event.UntracedConcurrent, Detail: strconv.Itoa(concurrent)}
	}
	return nil
}

// rescan decides whether to look again for processes that found no free strace.
func (c *capture) rescan(now time.Time, free bool) bool {
	if !c.starved || !free || now.Before(c.scanned.Add(rescanEvery)) || c.doc.Culprit.State != event.StateRunning {
		return false
	}
	c.starved, c.scanned = false, now
	c.scans++
	return true
}

// unmiss takes back that a process was missed: now it is traced.
func (c *capture) unmiss(id proc.ID) {
	code, missed := c.seen[id]
	if !missed {
		return
	}
	delete(c.seen, id)
	d := &c.doc.Culprit
	if d.Missed[code]--; d.Missed[code] == 0 {
		delete(d.Missed, code)
	}
	d.Examples = slices.DeleteFunc(d.Examples, func(m event.Missed) bool { return m.PID == id.PID })
}

// miss counts a process that is not traced, once, and reports whether it is the
// first with that reason.
func (c *capture) miss(id proc.ID, m event.Missed) (first bool) {
	code := m.Reason.Code
	if p := c.programs.alive[id.PID]; p != nil && p.id == id {
		p.doc.Culprit.Reason = &m.Reason
	}
	if _, seen := c.seen[id]; seen {
		return false
	}
	d := &c.doc.Culprit
	if len(c.seen) < maxSeen {
		c.seen[id] = code
	}
	c.dirty = true
	d.Missed[code]++
	if len(d.Examples) < maxExamples {
		d.Examples = append(d.Examples, m)
	}
	first = !c.told[code] // it may be missed, unmissed, and missed again
	c.told[code] = true
	return first
}
