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

	"culprit/evidence/internal/fixture"
	"culprit/evidence/outlet"
	"culprit/internal/event"
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
	fixture.Eventually(t, "five events are sent out", func() error {
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
