package bench

import (
	"encoding/json"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"culprit/evidence"
	"culprit/evidence/catalogue"
	"culprit/evidence/outlet"
	"culprit/internal/event"
)

// BenchmarkStore writes hits into a new catalogue, as many as may wait in its
// queue: as they are in a flood, without an origin, and with the process and its
// four parents, which are also sent out to a file.
func BenchmarkStore(b *testing.B) {
	for _, kind := range []struct {
		name    string
		parents int
		events  bool
	}{{"flood", -1, false}, {"with-origin", 4, false}, {"with-origin-and-events", 4, true}} {
		b.Run(kind.name, func(b *testing.B) {
			const count = 16_000
			var took time.Duration
			written := 0
			for b.Loop() {
				dir := filepath.Join(b.TempDir(), "evidence")
				var options []evidence.Option
				if kind.events {
					o, err := outlet.OpenFile(filepath.Join(b.TempDir(), "events.json"))
					if err != nil {
						b.Fatal(err)
					}
					options = append(options, evidence.SendTo(o))
				}
				store, err := evidence.Open(dir, quiet, options...)
				if err != nil {
					b.Fatal(err)
				}
				hits := make([]*event.Hit, count)
				for i := range hits {
					hits[i] = sampleHit(kind.parents)
				}
				begin := time.Now()
				for _, h := range hits {
					store.Hit(h)
				}
				if err := store.Close(); err != nil {
					b.Fatal(err)
				}
				took += time.Since(begin)
				written += count
				if missing := count - countHits(b, dir); missing != 0 {
					b.Fatalf("%d of %d hits are not in the catalogue", missing, count)
				}
			}
			doc, err := json.Marshal(sampleHit(kind.parents))
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(written)/took.Seconds(), "hits/s")
			b.ReportMetric(float64(len(doc)), "B/document")
			noTimePerRun(b)
		})
	}
}

func countHits(b *testing.B, dir string) (n int) {
	b.Helper()
	r, err := catalogue.OpenReader(dir)
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	for _, err := range r.Hits(catalogue.Filter{}) {
		if err != nil {
			b.Fatal(err)
		}
		n++
	}
	return n
}

// sampleHit makes a hit of an ordinary look-up. parents is how many parents its
// process has, -1 for no process at all.
func sampleHit(parents int) *event.Hit {
	h := &event.Hit{
		Timestamp:   time.Now(),
		Event:       event.Meta{ID: event.NewID(), Kind: "alert", Action: event.ActionHit},
		Rule:        event.Rule{Name: "badzone"},
		User:        &event.User{ID: "4242", Name: "web1", Group: &event.Group{ID: "4242"}},
		Network:     event.Network{Transport: "udp", Type: "ipv4", Bytes: 60},
		Source:      event.Endpoint{IP: netip.MustParseAddr("127.0.0.1"), Port: 42392},
		Destination: event.Endpoint{IP: netip.MustParseAddr("127.0.0.1"), Port: 53},
		DNS:         &event.DNS{ID: "4660", Question: event.Question{Name: "x.badzone.test", Type: "A", Class: "IN"}},
		Culprit:     event.HitDetail{Count: 1, Capture: &event.Reference{ID: event.NewID()}, Origin: event.Origin{Grade: event.GradeNone}},
		Packet:      make([]byte, 60),
	}
	var child *event.Process
	for i := range parents + 1 {
		child = &event.Process{
			PID: 800 + i, EntityID: "800-123456", Start: h.Timestamp, Name: "php", Executable: "/usr/bin/php8.2",
			CommandLine: "php /home/web1/public_html/cron.php", WorkingDirectory: "/home/web1",
			RealUser: &event.User{ID: "4242", Name: "web1"}, Parent: child,
		}
	}
	if child != nil {
		h.Process = child
		h.Culprit.Origin = event.Origin{Grade: event.GradeSocket, Processes: []event.Process{*child}}
	}
	return h
}
