package capture

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"culprit/capture/finder"
	"culprit/internal/config"
	"culprit/internal/event"
	"culprit/internal/proc"
	"culprit/internal/strace"
	"culprit/internal/words"
)

var ladder = []config.Level{
	{Hits: 1, Processes: 2, Window: 10 * time.Second, Strings: 32},
	{Hits: 3, Processes: 4, Window: time.Minute, Strings: 512},
}

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func at(s int) time.Time { return epoch.Add(time.Duration(s) * time.Second) }

func aHit() *event.Hit {
	return &event.Hit{Rule: event.Rule{Name: "badzone"}, Event: event.Meta{ID: event.NewID()}}
}

func aCapture() *campaign {
	return newCampaign(event.User{ID: "64201"}, config.ScopeUser, ladder, 5*time.Second, epoch)
}

// stops is a strace that keeps why it was told to let go.
type stops chan event.Ended

func (s stops) Detach(why event.Ended) {
	select {
	case s <- why:
	default:
	}
}

func (t *trace) stops() stops { return t.strace.(stops) }

// addTrace adds a trace whose strace runs.
func addTrace(c *campaign, pid int) *trace {
	t := &trace{campaign: c, id: proc.ID{PID: pid}, strace: make(stops, 1)}
	c.traces[t.id] = t
	return t
}

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
	if why := c.refuses(proc.ID{}, 0, 10); why == nil || words.Untraced(*why) != "level 1 allows 2 processes" {
		t.Errorf("refused because %v", why)
	}
	c.hit(aHit(), nil, at(2))
	c.hit(aHit(), nil, at(2))
	if why := c.refuses(proc.ID{}, 0, 10); why != nil {
		t.Errorf("level 2 refuses: %v", why)
	}
	c.budget.started = 4
	sender := proc.ID{PID: 7}
	c.senders.first[sender] = aHit()
	if why := c.refuses(sender, 0, 10); why != nil {
		t.Errorf("a known sender is refused: %v", why)
	}
	c.budget.started = 3
	if why := c.refuses(proc.ID{}, 10, 10); why == nil || why.Code != event.UntracedConcurrent {
		t.Errorf("refused because %v", why)
	}
	c.budget.started = 4
	c.update(at(3))
	deadline := c.window.deadline
	if c.hit(aHit(), nil, at(30)); c.window.deadline != deadline {
		t.Error("a hit puts off the end of a capture that can trace no more")
	}
	if !c.hasEnded() || words.CaptureEnded(c.doc.Culprit.EndedBecause) != "its 4 processes were used up" {
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
	if c.programs.wanted[young] || c.doc.Culprit.Programs != 2 || c.senders.has(young) {
		t.Error("the young one was taken for the old one")
	}
	if !c.miss(young, event.Missed{PID: 7, Reason: event.Untraced{Code: "another"}}) || c.doc.Culprit.Missed["why"] != 1 || c.doc.Culprit.Missed["another"] != 1 {
		t.Errorf("missed: %v, want both", c.doc.Culprit.Missed)
	}
}

// However many users there are, so many captures run at once, and the hits of the others
// say why they have none.
func TestCapturesAreBounded(t *testing.T) {
	t.Parallel()
	m := &memory{captures: map[string]event.Capture{}}
	c := config.Default()
	k := New(&c, strace.Program{}, m, nil, slog.New(slog.DiscardHandler))
	for i := range maxCaptures + 7 {
		k.hit(&event.Hit{User: &event.User{ID: fmt.Sprint(64_000_000 + i)}}, epoch)
	}
	if len(k.campaigns) != maxCaptures || len(m.captures) != maxCaptures {
		t.Errorf("%d captures, %d recorded", len(k.campaigns), len(m.captures))
	}
	if h := m.hits[len(m.hits)-1]; h.Culprit.Capture != nil || !strings.Contains(words.NoCapture(h.Culprit.NoCapture), "captures were running") {
		t.Errorf("a hit beyond: %+v", h.Culprit)
	}
	k.hit(&event.Hit{User: &event.User{ID: "64000000"}}, epoch)
	if h := m.hits[len(m.hits)-1]; h.Culprit.Capture == nil {
		t.Errorf("a further hit of one that is captured: %+v", h.Culprit)
	}
}

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
	if c.refuses(proc.ID{}, 1, 1); !c.search.starved {
		t.Fatal("a capture without a free strace is not starved")
	}
	if c.rescan(at(1), false) || !c.rescan(at(1), true) || c.rescan(at(1), true) {
		t.Error("it is to look again once, when there is a free strace")
	}
	c.refuses(proc.ID{}, 1, 1)
	if next := c.next(at(1)); !next.Equal(at(2)) || c.rescan(at(1), true) || !c.rescan(next, true) {
		t.Errorf("it is to look again after a second, not at %v", next)
	}
	// One capture cannot take every strace.
	for i := range 3 {
		addTrace(c, i)
	}
	if c.refuses(proc.ID{}, 3, 4) == nil {
		t.Error("a capture takes the last quarter")
	}
}
