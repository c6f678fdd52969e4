package hunt

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"culprit/internal/event"
	"culprit/internal/words"
	"culprit/test/harness"
)

// Hits intensify a capture level by level; when its time is up it ends, and lets
// go of what it traces; the next hit starts a new one.
func TestIntensify(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	d := h.Hunt(`
capture:
  linger: 1s
  levels:
    - {hits: 1, processes: 2, window: 4s, strings: 64}
    - {hits: 3, processes: 4, window: 4s, strings: 128, syscalls: "%network"}
    - {hits: 5, processes: 9, window: 4s, strings: 256, stacks: true}
`)
	uid := harness.NewUID()
	s := h.Sender(uid)
	ps := []*harness.Process{s.Process}
	for range 5 {
		ps = append(ps, h.Idle(uid))
	}
	asked := 0
	ask := func(upTo int) {
		for asked < upTo {
			asked++
			s.Ask(fmt.Sprintf("q%d.badzone.test", asked))
		}
	}
	// strings counts the traces by the -s of their straces.
	strings := func() map[string]int {
		counts := map[string]int{}
		for _, tr := range d.Traces() {
			counts[option(tr, "-s")]++
		}
		return counts
	}
	expect := func(hits, level int, want map[string]int) {
		t.Helper()
		ask(hits)
		d.Capture(uid, fmt.Sprintf("has %d hits and is on level %d", hits, level), func(c event.Capture) bool {
			return c.Culprit.Hits == hits && c.Culprit.Level == level && c.Culprit.State == event.StateRunning
		})
		harness.Eventually(t, fmt.Sprintf("level %d has the straces %v", level, want), func() error {
			if got := strings(); !maps.Equal(got, want) {
				return fmt.Errorf("they are %v", got)
			}
			return nil
		})
	}
	expect(1, 1, map[string]int{"64": 2})
	expect(2, 1, map[string]int{"64": 2})
	expect(3, 2, map[string]int{"64": 2, "128": 2})
	expect(5, 3, map[string]int{"64": 2, "128": 2, "256": 2})
	harness.Traced(t, ps...)
	for _, tr := range d.Traces() {
		c := tr.Culprit.Command
		if got, want := slices.Contains(c, "trace=%network"), option(tr, "-s") == "128"; got != want {
			t.Errorf("the syscall filter of level 2 is in %v: %t, want %t", c, got, want)
		}
		if got, want := slices.Contains(c, "-k"), option(tr, "-s") == "256" && hasStacks(h); got != want {
			t.Errorf("the stack traces of level 3 are in %v: %t, want %t", c, got, want)
		}
	}

	first := d.Capture(uid, "has ended", func(c event.Capture) bool { return c.Culprit.State == event.StateEnded })
	if c := first.Culprit; words.CaptureEnded(c.EndedBecause) != "its time was up" || c.Traces != 6 || len(c.Missed) != 0 {
		t.Errorf("the capture ended as %+v, want 6 traces, none missed (those of level 1 were traced later), and that its time was up", c)
	}
	harness.Free(t, ps...)
	for _, tr := range d.Traces() {
		if tr.Culprit.State != event.StateEnded || words.TraceEnded(tr.Culprit.EndedBecause) != "detached: its time was up" {
			t.Errorf("the trace of process %d is %+v, want it detached because the time was up", tr.Process.PID, tr.Culprit)
		}
	}

	s.Ask("again.badzone.test")
	hit := d.Hit("again.badzone.test")
	if hit.Culprit.Capture == nil || hit.Culprit.Capture.ID == first.Event.ID {
		t.Fatalf("the hit after the end joined %v, want a new capture", hit.Culprit.Capture)
	}
	harness.Eventually(t, "the new capture traces two processes", func() error {
		c := d.Captures("--capture", hit.Culprit.Capture.ID)
		if len(c) != 1 || c[0].Culprit.Level != 1 || c[0].Culprit.Hits != 1 || c[0].Culprit.Traces != 2 {
			return fmt.Errorf("it is %+v", c)
		}
		return nil
	})
	d.Stop()
	harness.Free(t, ps...)
}

// option returns the argument behind an option of a trace's strace.
func option(tr event.Trace, name string) string {
	i := slices.Index(tr.Culprit.Command, name)
	if i < 0 || i+1 == len(tr.Culprit.Command) {
		return ""
	}
	return tr.Culprit.Command[i+1]
}

func hasStacks(h *harness.Host) bool {
	return strings.Contains(h.Must(h.T, "strace", "-V"), "stack-trace=")
}

// A capture whose processes are used up takes no more, and ends with them.
func TestProcessesUsedUp(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	d := h.Hunt("capture: {levels: [{hits: 1, processes: 2, window: 5m}], linger: 5m}\n")
	uid := harness.NewUID()
	s := h.Sender(uid)
	other := h.Idle(uid)
	s.Ask("one.badzone.test")
	harness.Traced(t, s.Process, other)
	late := h.Idle(uid)
	d.Capture(uid, "waits for its processes", func(c event.Capture) bool { return c.Culprit.State == event.StateDraining })
	s.Ask("two.badzone.test") // joins, and changes nothing
	d.Capture(uid, "has two hits", func(c event.Capture) bool {
		return c.Culprit.Hits == 2 && c.Culprit.State == event.StateDraining
	})
	s.Stdin.Close()
	other.Stdin.Close()
	c := d.Capture(uid, "has ended", func(c event.Capture) bool { return c.Culprit.State == event.StateEnded })
	if c.Culprit.Traces != 2 || words.CaptureEnded(c.Culprit.EndedBecause) != "its limit of 2 processes was reached" {
		t.Errorf("the capture ended as %+v", c.Culprit)
	}
	if _, tracer := harness.Status(late.PID); tracer != 0 || d.TracedPIDs()[late.PID] {
		t.Errorf("a third process is traced")
	}
	d.Stop()
}

// The bound on straces at once holds; what it costs is told.
func TestConcurrent(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	d := h.Hunt("capture: {levels: [{hits: 1, processes: 100, window: 10m}], concurrent: 2}\n")
	uid := harness.NewUID()
	s := h.Sender(uid)
	for range 3 {
		h.Idle(uid)
	}
	s.Ask("x.badzone.test")
	c := d.Capture(uid, "has missed two processes", func(c event.Capture) bool {
		return c.Culprit.Traces == 2 && c.Culprit.Missed[event.UntracedConcurrent] == 2
	})
	if len(c.Culprit.Examples) != 2 || c.Culprit.Examples[0].PID == 0 {
		t.Errorf("the missed processes are described as %+v, want two", c.Culprit.Examples)
	}
	if got := h.Culprit("show", "--evidence", d.Evidence, c.Event.ID).Must(t); !strings.Contains(got, "2 processes: capture.concurrent allows 2 straces at once") {
		t.Errorf("culprit show does not say what was missed:\n%s", got)
	}
	d.Stop()
}

// A trace that reaches its bound is cut, says so, and lets its process go.
func TestTraceBytes(t *testing.T) {
	t.Parallel()
	const bound = 64 << 10
	h := harness.NewHost(t, "")
	d := h.Hunt("capture: {levels: [{hits: 1, processes: 5, window: 10m}], trace_bytes: 64KiB}\n")
	s := h.Sender(harness.NewUID())
	s.Ask("x.badzone.test")
	d.Trace(s.PID, "is there", nil)
	s.Say("chat") // system calls without end
	tr := d.Trace(s.PID, "has ended", harness.Ended)
	c := tr.Culprit
	if !c.Truncated || c.Lost <= 0 || words.TraceEnded(c.EndedBecause) != "detached: capture.trace_bytes was reached" {
		t.Errorf("the trace ended as %+v, want it truncated because of trace_bytes", c)
	}
	head, foot, body := harness.ReadTrace(t, tr.File.Path)
	if foot["bytes dropped"] != fmt.Sprint(c.Lost) {
		t.Errorf("the file says %q bytes were dropped, the catalogue %d", foot["bytes dropped"], c.Lost)
	}
	if len(body) > bound || len(body) < bound/2 || !strings.HasSuffix(body, "\n") {
		t.Errorf("the trace holds %d bytes, want up to %d in whole lines", len(body), bound)
	}
	if head["hit"] == "" || foot["ended"] != words.TraceEnded(c.EndedBecause) {
		t.Errorf("the cut trace has the header %v and the footer %v", head, foot)
	}
	if got := h.Culprit("show", "--evidence", d.Evidence, tr.Event.ID).Must(t); !strings.Contains(got, "of strace output was not kept") {
		t.Errorf("culprit show does not say that the trace is cut:\n%s", got)
	}
	harness.Free(t, s.Process)
	d.Stop()
}

// Packets that say the same within a second are one hit, with their number.
func TestRepeats(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	d := h.Hunt(harness.LongWindow)
	s := h.Sender(harness.NewUID())
	s.AskTimes("same.badzone.test", 7)
	s.Ask("other.badzone.test")
	// The count is told when the second is over.
	harness.Eventually(t, "the hit has the count 7", func() error {
		for _, hit := range d.Hits() {
			if hit.DNS.Question.Name == "same.badzone.test" && hit.Culprit.Count == 7 {
				return nil
			}
		}
		return errors.New("it has not")
	})
	s.Ask("same.badzone.test")
	harness.Eventually(t, "the same question after a second is another hit", func() error {
		if n := len(d.Hits()); n != 3 {
			return fmt.Errorf("there are %d hits", n)
		}
		return nil
	})
	harness.Eventually(t, "there is one capture, with 3 hits", func() error {
		if c := d.Captures(); len(c) != 1 || c[0].Culprit.Hits != 3 {
			return fmt.Errorf("captures: %+v", c)
		}
		return nil
	})
	d.Stop()
}
