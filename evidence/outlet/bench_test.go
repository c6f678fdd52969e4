package outlet

import (
	"compress/gzip"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"culprit/evidence/outlet/ocsf"
)

// BenchmarkSend compares the ways out, by the event: to a file as it is, to a file as OCSF, and to
// a collector on this machine that reads the requests and does nothing with them, which is counted.
func BenchmarkSend(b *testing.B) {
	const batch = 512
	line := `{"ecs":{"version":"8.11.0"},"@timestamp":"2026-11-26T12:00:00.123456789Z","event":{"sequence":1,"module":"culprit","dataset":"culprit.hit","id":"01M8CDWZ4P0879ER1KJ9HBJC3C","kind":"alert","action":"hit"},` +
		`"rule":{"name":"badzone"},"user":{"id":"33","name":"www-data"},"network":{"transport":"udp","type":"ipv4","bytes":65},"source":{"ip":"192.0.2.1","port":4711},"destination":{"ip":"192.0.2.53","port":53},` +
		`"dns":{"id":"7","question":{"name":"x.badzone.test","type":"A","class":"IN"}},"process":` + strings.Repeat(`{"pid":812,"entity_id":"812-4711","start":"2026-11-26T12:00:00Z","name":"php","executable":"/usr/bin/php8.2","command_line":"php /tmp/cron.php","working_directory":"/srv","parent":`, 6) +
		`{"pid":1}` + strings.Repeat("}", 6) + `,"culprit":{"capture":{"id":"01M8CDWZ4Q1ZATKP6HYA1NRF1P"},"origin":{"grade":"kernel"},"count":1}}` + "\n"
	send := func(b *testing.B, o Outlet) {
		events := make([]Event, batch)
		n := uint64(0)
		before := spent(b)
		for b.Loop() {
			for i := range events {
				n++
				events[i] = Event{n, line}
			}
			if err := o.Send(context.Background(), events); err != nil || o.Taken() != n {
				b.Fatalf("error %v, taken %d of %d", err, o.Taken(), n)
			}
		}
		b.ReportMetric(float64((spent(b)-before).Nanoseconds())/1000/float64(n), "µs-cpu/event")
	}
	file := func(b *testing.B) Outlet {
		o, err := OpenFile(filepath.Join(b.TempDir(), "events.json"))
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { o.Close(context.Background()) })
		return o
	}
	convert := ocsf.Converter{Host: "h", Version: "1"}.Line
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body := io.Reader(r.Body)
		if r.Header.Get("Content-Encoding") == "gzip" {
			body, _ = gzip.NewReader(r.Body)
		}
		io.Copy(io.Discard, body)
	}))
	defer collector.Close()
	otlp := func(b *testing.B, plain bool) Outlet {
		o, err := OpenOTLP(OTLPOptions{Endpoint: collector.URL, Timeout: time.Minute, Plain: plain})
		if err != nil {
			b.Fatal(err)
		}
		return o
	}
	b.Run("file", func(b *testing.B) { send(b, file(b)) })
	b.Run("file-ocsf", func(b *testing.B) { send(b, Formatted(file(b), convert)) })
	b.Run("otlp", func(b *testing.B) { send(b, otlp(b, true)) })
	b.Run("otlp-gzip", func(b *testing.B) { send(b, otlp(b, false)) })
}

// spent returns how much CPU this process has used.
func spent(b *testing.B) time.Duration {
	var r unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
