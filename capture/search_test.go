package capture

import (
	"testing"

	"culprit/internal/config"
	"culprit/internal/event"
	"culprit/internal/proc"
)

// A trace belongs to the hit of its own process, if that is known.
func TestTrigger(t *testing.T) {
	t.Parallel()
	c := aCapture()
	a, b := proc.ID{PID: 7, Start: 1}, proc.ID{PID: 8, Start: 2}
	first, second := aHit(), aHit()
	if c.senders.hit(a) != nil {
		t.Error("a hit before any")
	}
	again := aHit()
	for _, h := range []struct {
		*event.Hit
		sender proc.ID
		isNew  bool
	}{{first, a, true}, {again, a, false}, {second, b, true}} {
		if _, isNew := c.hit(h.Hit, []proc.ID{h.sender}, epoch); isNew != h.isNew {
			t.Errorf("sender %v is new: %v", h.sender, isNew)
		}
	}
	if c.senders.hit(a) != first || c.senders.hit(b) != second || c.senders.hit(proc.ID{PID: 9}) != second {
		t.Error("traces are linked to the wrong hits")
	}
	c.doc.Culprit.Scope = config.ScopeProcess
	if w := c.target(); len(w.Roots) != 2 || !w.Roots[a] {
		t.Errorf("roots %v", w.Roots)
	}
}

// Processes that found no free strace are looked for again, at most once a second.
func TestRescan(t *testing.T) {
	t.Parallel()
	c := aCapture()
	c.hit(aHit(), nil, epoch)
	if c.refuses(proc.ID{}, false, 1); !c.search.starved {
		t.Fatal("a capture without a free strace is not starved")
	}
	yes, no := func() bool { return true }, func() bool { return false }
	if c.rescan(at(1), no) || !c.rescan(at(1), yes) || c.rescan(at(1), yes) {
		t.Error("it is to look again once, when there is a free strace")
	}
	c.refuses(proc.ID{}, false, 1)
	if next := c.next(at(1)); !next.Equal(at(2)) || c.rescan(at(1), yes) || !c.rescan(next, yes) {
		t.Errorf("it is to look again after a second, not at %v", next)
	}
	// One capture cannot take every strace.
	for i := range 3 {
		addTrace(c, i)
	}
	if (campaigns{c.owner: c}).hasRoom(c, 3, 4) {
		t.Error("a capture takes the last quarter")
	}
}
