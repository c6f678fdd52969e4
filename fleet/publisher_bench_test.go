package fleet_test

import (
	"log/slog"
	"testing"
	"time"

	"culprit/evidence"
	"culprit/fleet"
	"culprit/internal/testkit/natsserver"
)

// BenchmarkPublish measures what a hit that is sent to a fleet costs this process, against one that is only recorded, and how fast
// events that have waited are sent.
func BenchmarkPublish(b *testing.B) {
	const hits = 20_000
	recorded := func(s *evidence.Store, want int64) {
		for n := s.Counts(); n.Waiting > 0 || n.FleetUnsent < want; n = s.Counts() {
			time.Sleep(time.Millisecond)
		}
	}
	for range b.N {
		alone := &host{t: b, name: "alone"}
		var err error
		if alone.store, err = evidence.Open(b.TempDir(), slog.New(slog.DiscardHandler)); err != nil {
			b.Fatal(err)
		}
		used := cpu(b)
		alone.hits(hits)
		recorded(alone.store, 0)
		without := cpu(b) - used
		if err := alone.store.Close(); err != nil {
			b.Fatal(err)
		}

		servers := []*natsserver.Server{natsserver.Start(b, "")}
		operator(b, servers, fleet.Plan{})
		h := newHost(b, "web1", servers)
		h.hits(1)
		h.allSent()
		servers[0].Kill()
		used = cpu(b)
		h.hits(hits)
		recorded(h.store, hits)
		began := time.Now()
		servers[0].Start()
		h.allSent()
		took, with := time.Since(began), cpu(b)-used
		if n := h.store.Counts(); n.FleetLost+n.Dropped > 0 {
			b.Fatalf("%+v", n)
		}
		h.stop()
		b.ReportMetric(float64(with.Microseconds())/hits, "µs/hit")
		b.ReportMetric(float64(with)/float64(without), "of-recorded")
		b.ReportMetric(hits/took.Seconds(), "sent/s")
	}
}
