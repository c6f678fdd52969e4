package faults

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"culprit/evidence"
	"culprit/internal/event"
	"culprit/test/harness"
)

// The clock was set back by an hour since the last daemon ran: what it left is of the future.
// All that comes now is listed behind it, found by its age, shown live, and kept.
func TestClockSetBack(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	config, dir := h.Configure(harness.Gated)
	store, err := evidence.Open(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	future := time.Now().Add(time.Hour)
	id := func() string { return ulid.MustNew(ulid.Timestamp(future), ulid.DefaultEntropy()).String() }
	old := event.Capture{
		Timestamp: future, Event: event.Meta{ID: id(), Kind: "event", Action: event.ActionCapture, Start: &future},
		User:    event.User{ID: "7"},
		Culprit: event.CaptureDetail{State: event.StateEnded, Hits: 1, Level: 1},
	}
	old.Event.Finish(future.Add(time.Second))
	store.Capture(old)
	trace := event.Trace{
		Timestamp: future, Event: event.Meta{ID: id(), Kind: "event", Action: event.ActionTrace, Start: &future},
		User: old.User, Process: event.Process{PID: 7, Name: "old"},
		Culprit: event.TraceDetail{Capture: event.Reference{ID: old.Event.ID}, State: event.StateEnded},
	}
	file, err := store.Create(&trace)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(file, "# of the future")
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	trace.Event.Finish(future.Add(time.Second))
	store.Trace(trace)
	hit := event.Hit{
		Timestamp: future, Event: event.Meta{ID: id(), Kind: "alert", Action: event.ActionHit}, Rule: event.Rule{Name: "badzone"},
		User: &old.User, DNS: &event.DNS{Question: event.Question{Name: "old.badzone.test", Type: "A"}},
		Culprit: event.HitDetail{Count: 1, Capture: &event.Reference{ID: old.Event.ID}, Origin: event.Origin{Grade: event.GradeNone}},
	}
	store.Hit(&hit)
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}

	d := h.HuntWith(config, dir)
	watching := h.StartAs(0, harness.Programs.Culprit, "watch", "--evidence", dir)
	harness.Eventually(t, "watch has had its first look", func() error {
		if !strings.Contains(watching.Output.String(), "culprit is running") {
			return errors.New("it has not")
		}
		return nil
	})
	uid := harness.NewUID()
	s := d.Captured(uid)
	s.Ask("now.badzone.test")
	now := d.Hit("now.badzone.test")
	if late := time.Since(now.Timestamp); late < 0 || late > harness.Patience {
		t.Errorf("the hit says that it was %v ago", late)
	}
	if last := d.Hits("-n", "1"); len(last) != 1 || last[0].Event.ID != now.Event.ID {
		t.Errorf("the last hit is %+v, want %s", last, now.Event.ID)
	}
	found := false
	for _, hit := range d.Hits("--since", "1m") {
		found = found || hit.Event.ID == now.Event.ID
	}
	if !found {
		t.Error("--since 1m does not find the hit")
	}
	harness.Eventually(t, "watch shows the hit", func() error {
		if !strings.Contains(watching.Output.String(), now.Event.ID) {
			return fmt.Errorf("it says %q", harness.Tail(watching.Output.String()))
		}
		return nil
	})
	d.NextWhole(t, uid)
	if r := h.Culprit("prune", "--dry-run", "-c", config); r.Code != 0 || strings.Contains(r.Out, "older than") {
		t.Errorf("prune would: %s%s", r.Out, r.Errors)
	}
	if out := h.Culprit("show", "--evidence", dir, trace.Event.ID).Must(t); !strings.Contains(out, "old") {
		t.Errorf("the trace of the future: %s", out)
	}
	d.Stop()
	h.Unharmed(uid)
}
