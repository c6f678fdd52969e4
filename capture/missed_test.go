package capture

import (
	"fmt"
	"testing"

	"culprit/internal/event"
	"culprit/internal/proc"
)

// Each missed process is counted once, and the first are described.
func TestMissed(t *testing.T) {
	t.Parallel()
	c := aCapture()
	for i := range 2 * maxExamples {
		for range 3 {
			c.miss(proc.ID{PID: i}, event.Missed{PID: i, Reason: event.Untraced{Code: "why"}})
		}
	}
	d := c.snapshot().Culprit
	if d.Missed["why"] != 2*maxExamples || len(d.Examples) != maxExamples {
		t.Errorf("missed %v with %d examples", d.Missed, len(d.Examples))
	}
	c.unmiss(proc.ID{PID: 1})
	c.unmiss(proc.ID{PID: 1})
	if now := c.snapshot().Culprit; now.Missed["why"] != 2*maxExamples-1 || len(now.Examples) != maxExamples-1 {
		t.Errorf("missed %v with %d examples when one is traced", now.Missed, len(now.Examples))
	}
	if d.Missed["why"] != 2*maxExamples {
		t.Error("a snapshot changed")
	}
}

// Reasons can name processes, of which a user can make many: they are counted together,
// and told once.
func TestMissedWithManyDetails(t *testing.T) {
	t.Parallel()
	c := aCapture()
	const count = 300
	told := 0
	for i := range count {
		if c.miss(proc.ID{PID: i}, event.Missed{PID: i, Reason: event.Untraced{Code: event.UntracedForeign, Detail: fmt.Sprint("process ", i)}}) {
			told++
		}
	}
	if d := c.snapshot().Culprit; len(d.Missed) != 1 || told != 1 || d.Missed[event.UntracedForeign] != count {
		t.Errorf("%v, %d of them told", d.Missed, told)
	}
	// What was told is not told again when its number was zero in between.
	for i := range count {
		c.unmiss(proc.ID{PID: i})
	}
	if c.miss(proc.ID{PID: 1}, event.Missed{PID: 1, Reason: event.Untraced{Code: event.UntracedForeign}}) || c.snapshot().Culprit.Missed[event.UntracedForeign] != 1 {
		t.Error("the same reason is told twice, or not counted")
	}
}
