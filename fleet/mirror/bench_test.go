package mirror

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"culprit/evidence/catalogue"
	"culprit/internal/event"
	"culprit/internal/testkit/natsserver"
)

// BenchmarkCatchUp says how fast a new mirror reads a fleet of 200 hosts, how much disk a hit takes, and how long its
// questions take then. MIRROR_HITS says how many hits there are.
func BenchmarkCatchUp(b *testing.B) {
	const hosts, perMessage = 200, 100
	n, _ := strconv.Atoi(os.Getenv("MIRROR_HITS"))
	n = max(n, 20_000)
	for b.Loop() {
		dir := b.TempDir()
		m := openMirror(b, dir)
		at := catalogue.Position{Stream: "culprit_events", Created: time.Now()}
		var took time.Duration
		bytes := 0
		for i := 0; i < n; i += perMessage {
			host := fmt.Sprint("web", i/perMessage%hosts)
			var documents []any
			for j := range perMessage {
				h := hitOf(host, fmt.Sprintf("x%d.bad%d.test", i+j, (i+j)%1000))
				h.Process = &event.Process{PID: 812, EntityID: "812-1", Start: time.Now(), CommandLine: "php /home/web1/cron.php", Parent: &event.Process{PID: 1, Executable: "/sbin/init"}}
				documents = append(documents, h)
			}
			msg := message(at.Sequence+1, host, lines(b, documents...))
			bytes += len(msg.Data)
			began := time.Now()
			var err error
			if at, err = m.take(b.Context(), at, []Message{msg}); err != nil {
				b.Fatal(err)
			}
			took += time.Since(began)
		}
		b.ReportMetric(float64(n)/took.Seconds(), "hits/s")
		b.ReportMetric(float64(bytes)/float64(n), "bytes-sent/hit")
		m.Close()
		info, err := os.Stat(filepath.Join(dir, "catalogue.db"))
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(info.Size())/float64(n), "bytes/hit")
		r, err := catalogue.OpenReader(dir)
		if err != nil {
			b.Fatal(err)
		}
		for what, f := range map[string]catalogue.Filter{
			"newest": {Last: 50}, "host": {Last: 50, Host: "web7"}, "name": {Last: 50, Name: "bad7.test"}, "all-names": {Last: 50, Name: "test"},
		} {
			began := time.Now()
			hits, err := catalogue.All(r.Hits(f))
			if err != nil || len(hits) != 50 && n >= 50_000 {
				b.Fatalf("%s: %d hits, %v", what, len(hits), err)
			}
			b.ReportMetric(float64(time.Since(began).Microseconds())/1000, what+"-ms")
		}
		began := time.Now()
		if _, err := r.Asked("bad7.test"); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(time.Since(began).Microseconds())/1000, "asked-ms")
		r.Close()
	}
}

// BenchmarkLatency says how long a hit takes from the host's publishing to the mirror, with a real server.
func BenchmarkLatency(b *testing.B) {
	c := connect(b, natsserver.Start(b, ""))
	dir := b.TempDir()
	m := openMirror(b, dir)
	defer m.Close()
	ctx, cancel := context.WithCancel(b.Context())
	ready, done := make(chan struct{}), make(chan error)
	go func() { done <- m.Follow(ctx, c, func() { close(ready) }) }()
	<-ready
	r, err := catalogue.OpenReader(dir)
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	var all []time.Duration
	for b.Loop() {
		h := hitOf("web1", "a.test")
		data := lines(b, h)
		began := time.Now()
		publish(b, c, "web1", data)
		for {
			if found, err := r.Find(h.Event.ID); err == nil && found.Hit != nil {
				break
			}
			time.Sleep(time.Millisecond)
		}
		all = append(all, time.Since(began))
	}
	cancel()
	<-done
	slices.Sort(all)
	b.ReportMetric(float64(all[len(all)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(all[len(all)*99/100].Microseconds())/1000, "p99-ms")
}
