package capture

import (
	"testing"
	"time"

	"culprit/capture/finder"
	"culprit/internal/event"
	"culprit/internal/proc"
)

// A PID that is used again is another process: it is found, listed and counted anew, and
// what is known of the first one says nothing about it.
func TestPIDReused(t *testing.T) {
	t.Parallel()
	c := aCapture()
	old, young := proc.ID{PID: 7, Start: 1}, proc.ID{PID: 7, Start: 2}
	c.hit(aHit(), []proc.ID{old}, epoch)
	c.programs.wanted[old] = true
	c.seen(finder.Process{ID: old, At: epoch, Program: proc.Program{Executable: "/old", CommandLine: "old"}})
	c.miss(old, event.Missed{PID: 7, Reason: event.Untraced{Code: "why"}})
	c.seen(finder.Process{ID: young, At: epoch.Add(time.Second), Program: proc.Program{Executable: "/young", CommandLine: "young"}})
	c.programs.traced(old, "OLD") // late news
	if len(c.programs.changed) != 1 || c.programs.changed[0].Process.CommandLine != "old" || c.programs.changed[0].Event.End == nil {
		t.Fatalf("ended: %+v, want the old one", c.programs.changed)
	}
	if p := c.programs.alive[7]; p.id != young || p.doc.Culprit.Traced || p.doc.Culprit.Reason != nil || p.doc.Process.CommandLine != "young" {
		t.Errorf("alive: %+v, want the young one, of which nothing is known", p)
	}
	if c.programs.wanted[young] || c.doc.Culprit.Programs != 2 || c.senders.first[young] != nil {
		t.Error("the young one was taken for the old one")
	}
	if !c.miss(young, event.Missed{PID: 7, Reason: event.Untraced{Code: "another"}}) || c.doc.Culprit.Missed["why"] != 1 || c.doc.Culprit.Missed["another"] != 1 {
		t.Errorf("missed: %v, want both", c.doc.Culprit.Missed)
	}
}
