package evidence

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"culprit/evidence/catalogue"
	"culprit/evidence/internal/fixture"
	"culprit/evidence/outlet"
	"culprit/internal/event"
	"culprit/internal/testkit"
)

// catcher is an outlet for tests, which may be shut.
type catcher struct {
	mu    sync.Mutex
	shut  bool
	taken uint64
	lines []string
}

func (c *catcher) Send(_ context.Context, events []outlet.Event) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.shut && len(events) > 0 {
		return errors.New("shut")
	}
	for _, e := range events {
		c.lines = append(c.lines, e.Line)
		c.taken = e.Sequence
	}
	return nil
}

func (c *catcher) Taken() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.taken
}

func (c *catcher) Close(context.Context) error { return nil }

// told lists what was sent out, as "3 capture running", and fails the test unless the
// numbers go on from first.
func (c *catcher) told(t *testing.T, first uint64) (all []string) {
	t.Helper()
	for i, line := range c.lines {
		var e struct {
			ECS   struct{ Version string }
			Event struct {
				Sequence        uint64
				Action, Dataset string
			}
			Culprit struct {
				State, Code string
				Count       int
			}
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.ECS.Version == "" || e.Event.Dataset != "culprit."+e.Event.Action {
			t.Fatalf("%v: %s", err, line)
		}
		if e.Event.Sequence != first+uint64(i) {
			t.Errorf("event %d has the number %d", i, e.Event.Sequence)
		}
		what := e.Event.Action + " " + e.Culprit.State
		if e.Event.Action == event.ActionHit {
			what += fmt.Sprint(e.Culprit.Count)
		}
		all = append(all, strings.TrimSpace(what))
	}
	return all
}

func openWith(t *testing.T, dir string, c outlet.Outlet) *Store {
	t.Helper()
	s, err := Open(dir, slog.New(slog.DiscardHandler), SendTo(c))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func someCapture(state string) event.Capture {
	c := event.Capture{Timestamp: time.Now(), Event: event.Meta{ID: "C", Kind: "event", Action: event.ActionCapture}, User: event.User{ID: "5"}}
	c.Culprit.State, c.Culprit.Level, c.Culprit.Config = state, 1, "rules: …"
	return c
}

func someTrace(state string) event.Trace {
	return event.Trace{
		Timestamp: time.Now(), Event: event.Meta{ID: "T", Kind: "event", Action: event.ActionTrace},
		User:    event.User{ID: "5"},
		Culprit: event.TraceDetail{Capture: event.Reference{ID: "C"}, State: state},
	}
}

func someHit(id string) *event.Hit {
	h := &event.Hit{Timestamp: time.Now(), Event: event.Meta{ID: id, Kind: "alert", Action: event.ActionHit}, Rule: event.Rule{Name: "r"}}
	h.Culprit.Count = 1
	return h
}

// What is recorded is sent out, captures and traces anew when their state is another; what
// the outlet does not take waits for the next culprit.
func TestEvents(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := new(catcher)
	s := openWith(t, dir, c)
	s.Hit(someHit("H"))
	s.Capture(someCapture(event.StateRunning))
	s.Repeated("H", 7)
	s.Trace(someTrace(event.StateRunning))
	s.Lost(event.NewLoss("x", "", 1))
	testkit.Eventually(t, "five events are sent out", func() error {
		if n := c.Taken(); n != 5 {
			return fmt.Errorf("%d are", n)
		}
		return nil
	})
	s.Capture(someCapture(event.StateRunning)) // nothing new
	c.mu.Lock()
	c.shut = true
	c.mu.Unlock()
	s.Trace(someTrace(event.StateEnded))
	s.Capture(someCapture(event.StateEnded))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	first := c.told(t, 1)
	slices.Sort(first)
	if got := strings.Join(first, ", "); got != "capture running, hit 1, hit 7, loss, trace running" {
		t.Errorf("told: %s", got)
	}
	if strings.Contains(strings.Join(c.lines, ""), "rules: …") {
		t.Error("the configuration is sent out")
	}
	next := &catcher{taken: 5} // it knows what it has
	s = openWith(t, dir, next)
	s.Hit(someHit("H2"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	got := next.told(t, 6)
	slices.Sort(got)
	if got := strings.Join(got, ", "); got != "capture ended, hit 1, trace ended" {
		t.Errorf("told by the next: %s", got)
	}
	last := &catcher{taken: next.taken}
	s = openWith(t, dir, last)
	if left := s.Counts().Unsent; left != 0 {
		t.Errorf("%d events are left", left)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// An outlet with events of another catalogue: what waits here counts as lost, and numbers
// go on behind those that it has.
func TestEventsOfAnotherCatalogue(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openWith(t, dir, &catcher{shut: true})
	s.Hit(someHit("H"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	c := &catcher{taken: 1000}
	s = openWith(t, dir, c)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(c.told(t, 1001), ", "); got != "loss" {
		t.Errorf("told: %s", got)
	}
}

// refuser is an outlet whose destination refuses two events for good with the first it gets.
type refuser struct {
	catcher
	refused func(int64, string)
	once    sync.Once
}

func (r *refuser) OnRefused(f func(int64, string)) { r.refused = f }

func (r *refuser) Send(ctx context.Context, events []outlet.Event) error {
	r.once.Do(func() { r.refused(2, "too old") })
	return r.catcher.Send(ctx, events)
}

// Events that their destination refuses are counted, recorded as a loss, and logged.
func TestRefusedEvents(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	r := new(refuser)
	s, err := Open(t.TempDir(), slog.New(slog.NewTextHandler(&log, nil)), SendTo(r))
	if err != nil {
		t.Fatal(err)
	}
	s.Hit(someHit("H"))
	testkit.Eventually(t, "the hit and the loss are sent out", func() error {
		if n := r.Taken(); n != 2 {
			return fmt.Errorf("%d are", n)
		}
		return nil
	})
	if n := s.Counts().Refused; n != 2 {
		t.Errorf("%d refused events are counted", n)
	}
	if got := fixture.LossTexts(t, s.catalogue.Reader().Losses(catalogue.Filter{})); !strings.Contains(got, "refused by the collector") {
		t.Errorf("losses: %s", got)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), `events were refused for good" count=2 error="too old"`) {
		t.Errorf("the log: %s", log.String())
	}
	if got := r.told(t, 1); !slices.Equal(got, []string{"hit 1", "loss"}) {
		t.Errorf("told: %v", got)
	}
}
