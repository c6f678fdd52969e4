package serve

import (
	"cmp"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"culprit/evidence/catalogue"
	"culprit/internal/event"
)

// BenchmarkFleet measures the pages of a mirror over HTTP: of 200 hosts, with MIRROR_HITS hits, which
// MIRROR_DIR keeps for the next run. For each filter it takes what
// many hits have, what one in a thousand has, and what none has.
func BenchmarkFleet(b *testing.B) {
	const hosts, perMessage = 200, 5000
	n, _ := strconv.Atoi(os.Getenv("MIRROR_HITS"))
	n = max(n, 20_000)
	dir := cmp.Or(os.Getenv("MIRROR_DIR"), b.TempDir())
	_, err := os.Stat(filepath.Join(dir, "catalogue.db"))
	began, span := time.Now(), 20*time.Hour // the hits are of the last 20 hours
	receive := mirrorIn(b, dir)
	for i := 0; i < n && err != nil; i += perMessage {
		var documents []catalogue.Received
		for j := i; j < min(n, i+perMessage); j++ {
			documents = append(documents, hitOn(fmt.Sprint("web", j%hosts), fmt.Sprintf("x%d.bad%d.test", j, j%1000)))
			h := documents[j-i].Document.(*event.Hit)
			h.Timestamp = began.Add(-span + span/time.Duration(n)*time.Duration(j))
			h.Event.ID = ulid.MustNew(ulid.Timestamp(h.Timestamp), rand.Reader).String()
			h.User.ID = "7"
			if j%1000 == 7 {
				h.User.ID, h.Rule.Name = "8", "rare"
				h.Container = &event.Container{ID: "c0ffee", Name: "cart"}
				h.Culprit.Listed = &event.Listed{File: "urlhaus.txt", Line: j}
				h.Threat = &event.Threat{Feed: event.Feed{Name: "urlhaus"}}
			}
		}
		receive(documents...)
	}
	b.Logf("%d hits were written in %s", n, time.Since(began).Round(time.Second))
	at, _ := start(b, dir, "127.0.0.1:0")
	for _, query := range []string{
		"", "user=7", "user=8", "user=9", "rule=badzone", "rule=rare", "rule=none", "name=test", "name=bad7.test", "name=none.test", "container=cart", "container=none",
		"list=urlhaus.txt", "list=none", "host=web7", "host=none", "since=1h", "since=1m", "user=8&host=web7", "user=8&host=web8", "name=bad8.test&user=8", "rule=rare&since=1h",
	} {
		for _, page := range []string{"/", "/counts"} {
			b.Run(page+"?"+query, func(b *testing.B) {
				var all []time.Duration
				size := 0
				for b.Loop() {
					began := time.Now()
					status, body := get(b, at+page+"?"+query)
					all, size = append(all, time.Since(began)), len(body)
					if status != 200 || page == "/" && query == "" && strings.Count(body, "<tr data-id=") != hitsPerPage {
						b.Fatalf("%d: %.500s", status, body)
					}
				}
				slices.SortFunc(all, cmp.Compare)
				b.ReportMetric(float64(all[len(all)/2].Microseconds())/1000, "p50-ms")
				b.ReportMetric(float64(all[len(all)-1].Microseconds())/1000, "worst-ms")
				b.ReportMetric(float64(size), "bytes")
			})
		}
	}
}
