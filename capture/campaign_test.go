package capture

import (
	"testing"
	"time"

	"culprit/internal/event"
	"culprit/internal/proc"
	"culprit/internal/words"
)

// Hits raise the level at their thresholds and start the window anew.
func TestHitsIntensify(t *testing.T) {
	t.Parallel()
	c := aCapture()
	for i, want := range []struct {
		raised   bool
		level    int
		deadline time.Time
	}{{false, 1, at(10)}, {false, 1, at(11)}, {true, 2, at(62)}, {false, 2, at(63)}} {
		raised, _ := c.hit(aHit(), nil, at(i))
		if raised != want.raised || c.doc.Culprit.Level != want.level || !c.window.deadline.Equal(want.deadline) {
			t.Errorf("hit %d: raised %v to level %d until %v, want %+v", i+1, raised, c.doc.Culprit.Level, c.window.deadline, want)
		}
	}
	if c.doc.Culprit.Hits != 4 || c.doc.Rule.Name != "badzone" || c.doc.Culprit.FirstHit == nil {
		t.Errorf("capture %+v", c.doc)
	}
}

// A capture ends when its time is up, once its straces are gone; they get the
// linger time to end by themselves.
func TestTimeIsUp(t *testing.T) {
	t.Parallel()
	c := aCapture()
	c.hit(aHit(), nil, epoch)
	tr := addTrace(c, 1)
	for _, step := range []struct {
		now      int
		state    string
		detached bool
	}{{9, event.StateRunning, false}, {10, event.StateDraining, false}, {14, event.StateDraining, false}, {15, event.StateDraining, true}} {
		c.update(at(step.now))
		if c.doc.Culprit.State != step.state || (len(tr.stops()) == 1) != step.detached {
			t.Errorf("after %d s: %s, detached %v; want %+v", step.now, c.doc.Culprit.State, len(tr.stops()) == 1, step)
		}
	}
	if next := c.next(at(9)); !next.Equal(at(10)) {
		t.Errorf("next look at %v", next)
	}
	if next := c.next(at(10)); !next.Equal(at(15)) {
		t.Errorf("next look at %v", next)
	}
	delete(c.traces, tr.id)
	c.update(at(16))
	if !c.hasEnded() || c.doc.Event.End == nil || words.CaptureEnded(c.doc.Culprit.EndedBecause) != "its time was up" {
		t.Errorf("capture %+v", c.doc)
	}
}

// A hit revives a capture that is draining, with straces that are detached anew
// when that time is up too.
func TestHitRevives(t *testing.T) {
	t.Parallel()
	c := aCapture()
	c.hit(aHit(), nil, epoch)
	addTrace(c, 1)
	c.update(at(15))
	c.hit(aHit(), nil, at(16))
	c.update(at(16))
	if c.doc.Culprit.State != event.StateRunning || c.doc.Culprit.EndedBecause != nil {
		t.Errorf("capture %+v", c.doc.Culprit)
	}
	late := addTrace(c, 2)
	c.update(at(31))
	if len(late.stops()) != 1 {
		t.Error("a strace of the second life was not told to let go")
	}
}

// Processes are used up for good only at the highest level: before it, hits that
// are still to come would allow more.
func TestUsedUp(t *testing.T) {
	t.Parallel()
	c := aCapture()
	c.hit(aHit(), nil, epoch)
	c.budget.started = 2
	c.update(at(1))
	if c.doc.Culprit.State != event.StateRunning {
		t.Errorf("used up at level 1: %s", c.doc.Culprit.State)
	}
	if why := c.refuses(proc.ID{}, true, 10); why == nil || words.Untraced(*why) != "level 1 allows 2 processes" {
		t.Errorf("refused because %v", why)
	}
	c.hit(aHit(), nil, at(2))
	c.hit(aHit(), nil, at(2))
	if why := c.refuses(proc.ID{}, true, 10); why != nil {
		t.Errorf("level 2 refuses: %v", why)
	}
	c.budget.started = 4
	sender := proc.ID{PID: 7}
	c.senders.first[sender] = aHit()
	if why := c.refuses(sender, true, 10); why != nil {
		t.Errorf("a known sender is refused: %v", why)
	}
	c.budget.started = 3
	if why := c.refuses(proc.ID{}, false, 10); why == nil || why.Code != event.UntracedConcurrent {
		t.Errorf("refused because %v", why)
	}
	c.budget.started = 4
	c.update(at(3))
	deadline := c.window.deadline
	if c.hit(aHit(), nil, at(30)); c.window.deadline != deadline {
		t.Error("a hit puts off the end of a capture that can trace no more")
	}
	if !c.hasEnded() || words.CaptureEnded(c.doc.Culprit.EndedBecause) != "its limit of 4 processes was reached" {
		t.Errorf("used up at the highest level: %+v", c.doc.Culprit)
	}
}

func TestClose(t *testing.T) {
	t.Parallel()
	c := aCapture()
	tr := addTrace(c, 1)
	c.close(event.EndedStopped, at(1))
	if c.doc.Culprit.State != event.StateDraining || <-tr.stops() != (event.Ended{Code: event.EndedStopped}) {
		t.Errorf("capture %+v", c.doc.Culprit)
	}
	delete(c.traces, tr.id)
	c.update(at(2))
	if !c.hasEnded() || words.CaptureEnded(c.doc.Culprit.EndedBecause) != "culprit was stopped" {
		t.Errorf("capture %+v", c.doc.Culprit)
	}
}
