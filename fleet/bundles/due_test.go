package bundles

import (
	"slices"
	"testing"
	"time"

	"culprit/evidence"
	"culprit/evidence/catalogue"
	"culprit/internal/config"
	"culprit/internal/event"
	"culprit/internal/testkit"
)

// What was looked at and is not open is not looked at again; what runs is, until it has ended and is given.
func TestDue(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, _ := evidenceOf(t, dir, "")
	g := Giver{Dir: dir, Rule: config.BundlesAll, Log: discard, open: map[string]bool{}, given: map[string]bool{}, needs: map[string]int64{}}
	look := func(what string, open int, want ...string) {
		t.Helper()
		got, err := g.due(t.Context())
		if err != nil || !slices.Equal(got, want) || len(g.open) != open {
			t.Errorf("%s: due are %v, %v, and %v are open; want %v, and %d", what, got, err, g.open, want, open)
		}
	}
	look("one has ended", 1, first.Event.ID)
	look("it was not given", 1, first.Event.ID)
	g.given[first.Event.ID] = true
	g.close(first.Event.ID)
	look("it was given", 0)

	store, err := evidence.Open(dir, discard)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now().Add(-time.Hour)
	second := event.Capture{
		Timestamp: began, Event: event.Meta{ID: event.NewID(), Kind: "event", Action: event.ActionCapture, Start: &began}, User: event.User{ID: "7"},
		Culprit: event.CaptureDetail{State: event.StateRunning},
	}
	store.Capture(second)
	testkit.Eventually(t, "the catalogue has it", func() error {
		r, err := catalogue.OpenReader(dir)
		if err != nil {
			return err
		}
		defer r.Close()
		_, err = r.CaptureOf(second.Event.ID)
		return err
	})
	look("another runs", 1)
	second.Event.Finish(time.Now().Add(-2 * lateProof))
	second.Culprit.State = event.StateEnded
	store.Capture(second)
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	look("it has ended", 1, second.Event.ID)

	g.Rule = config.BundlesProven
	look("it is not proven", 0)
}
