package daemon

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"culprit/daemon/metrics"
	"culprit/evidence"
	"culprit/evidence/catalogue"
	"culprit/evidence/retention"
	"culprit/internal/config"
	"culprit/internal/event"
)

// noCounts are the metrics of a daemon that has done nothing yet.
func noCounts() *counts {
	return &counts{metrics.New(metrics.Source{
		Version: "dev", Commit: "unknown", Tables: catalogue.Tables(),
		Waiting: func() int { return 0 }, Catalogue: func() metrics.Catalogue { return metrics.Catalogue{} }, Sensor: func() metrics.Sensor { return metrics.Sensor{} },
		Recorded:  func() uint64 { return 0 },
		Filtered:  func() map[string]metrics.Filtered { return map[string]metrics.Filtered{"feed": {}} },
		Connected: func() float64 { return 0 },
	})}
}

// counters returns the values of all counters, by name and label values.
func counters(t *testing.T, n *counts) map[string]float64 {
	t.Helper()
	families, err := n.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			key := f.GetName()
			for _, l := range m.GetLabel() {
				key += " " + l.GetValue()
			}
			got[key] = m.GetCounter().GetValue()
		}
	}
	return got
}

// Every loss of the trigger has its own counter.
func TestLossesAreCounted(t *testing.T) {
	t.Parallel()
	n := noCounts()
	for i, code := range []event.LossCode{event.LossKernel, event.LossQueue, event.LossRate, event.LossUnverified, event.LossForeign, event.LossOverruns} {
		n.Lost(event.NewLoss(code, "", uint64(i+1)).Culprit)
	}
	got := counters(t, n)
	for key, want := range map[string]float64{
		"culprit_packets_lost_total kernel": 1, "culprit_packets_lost_total queue": 2, "culprit_packets_lost_total rate": 3,
		"culprit_packets_ignored_total unverified": 4, "culprit_packets_ignored_total foreign": 5, "culprit_nflog_overruns_total": 6,
	} {
		if got[key] != want {
			t.Errorf("%s is %v, want %v", key, got[key], want)
		}
	}
}

// What the daemon's sweeper removes is counted, in series that existed before.
func TestRemovalsAreCounted(t *testing.T) {
	t.Parallel()
	n := noCounts()
	dir := t.TempDir()
	open := func() *evidence.Store {
		store, err := evidence.Open(dir, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return store
	}
	store := open()
	before := counters(t, n)
	capture := event.Capture{Event: event.Meta{ID: event.NewID()}, User: event.User{ID: "64200"}}
	capture.Culprit.State = event.StateEnded
	trace := event.Trace{Event: event.Meta{ID: event.NewID()}, User: capture.User, Process: event.Process{PID: 1, Name: "sh"}}
	trace.Culprit.Capture.ID, trace.Culprit.State = capture.Event.ID, event.StateEnded
	f, err := store.Create(&trace)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	f.Close()
	store.Capture(capture)
	store.Trace(trace)
	if err := store.Close(); err != nil { // which writes everything
		t.Fatal(err)
	}
	store = open()
	defer store.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	sweeper := store.Sweeper(retention.Bounds{Keep: time.Hour, MaxBytes: 512 << 10}, func(r retention.Report, err error) {
		n.swept(r, err)
		if err != nil {
			t.Error(err)
		}
		if len(r.Removed) > 0 {
			cancel()
		}
	})
	sweeper.Run(ctx)
	got := counters(t, n)
	const key = "culprit_evidence_evictions_total trace max_bytes"
	if _, there := before[key]; !there || got[key] != 1 {
		t.Errorf("%s is %v (before: %v), want 1", key, got[key], before[key])
	}
	if len(got) != len(before) {
		t.Errorf("%d series, %d before", len(got), len(before))
	}
}

// BenchmarkHit measures what the counts add to a hit.
func BenchmarkHit(b *testing.B) {
	n := noCounts()
	n.configured(&config.Config{Rules: []config.Rule{{Name: "badzone"}}})
	for b.Loop() {
		n.Hit("badzone", event.GradeSocket)
	}
}
