package serve

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"culprit/evidence/tracefile"
	"culprit/internal/strace"
)

// BenchmarkFirstPage measures the first page in evidence of a million hits, against the same with one page of them.
func BenchmarkFirstPage(b *testing.B) {
	var small time.Duration
	for _, hits := range []int{hitsPerPage, 1_000_000} {
		b.Run(fmt.Sprint(hits), func(b *testing.B) {
			s, dir := store(b)
			last := ""
			for i := range hits {
				h := hitOf(fmt.Sprintf("x%d.badzone.test", i))
				s.Hit(h)
				if last = h.Event.ID; (i+1)%10_000 == 0 { // the store drops what it has no room for
					for s.Counts().Waiting > 0 {
						time.Sleep(10 * time.Millisecond)
					}
				}
			}
			if n := s.Counts().Dropped; n > 0 {
				b.Fatalf("%d hits were dropped", n)
			}
			at, _ := start(b, dir, "127.0.0.1:0")
			body := shows(b, at, last)
			b.ResetTimer()
			for b.Loop() {
				get(b, at)
			}
			each := b.Elapsed() / time.Duration(b.N)
			if hits == hitsPerPage {
				small = each
			}
			b.ReportMetric(float64(each)/float64(small), "of-small")
			b.ReportMetric(float64(len(body)), "bytes")
			began := time.Now()
			_, plot := get(b, at+"/counts")
			if !strings.Contains(plot, fmt.Sprintf("%d hits from", hits)) {
				b.Error("the plot does not count all")
			}
			b.ReportMetric(float64(time.Since(began).Milliseconds()), "plot-ms")
		})
	}
}

// BenchmarkTrace measures a page around any line of a trace of 1 GB, as it is while it is written and after it was compressed,
// against reading the trace from its begin to that line.
func BenchmarkTrace(b *testing.B) {
	const size = 1_000_000_000
	at, c, traces, _ := inCapture(b, "1 1.0 a\n", "1 1.0 a\n")
	lines := int64(0)
	for i, how := range []string{"plain", "compressed"} {
		name := traces[i].File.Path
		lines = longTrace(b, name, size)
		if i == 1 {
			began := time.Now()
			if err := tracefile.Compress(b.Context(), name); err != nil {
				b.Fatal(err)
			}
			b.Logf("compressing took %s", time.Since(began).Round(time.Millisecond))
		}
		page := at + "/traces/" + traces[i].Event.ID
		took := func(query, want string) time.Duration {
			began := time.Now()
			if status, body := get(b, page+query); status != 200 || !contains(said(body), want) {
				b.Fatalf("%s: %d, without %q: %.2000s", query, status, want, said(body))
			}
			return time.Since(began)
		}
		b.Run(how, func(b *testing.B) {
			cold := took(fmt.Sprintf("?line=%d", lines), fmt.Sprintf("of %d", lines))
			random := rand.New(rand.NewPCG(1, 2))
			var most, all, beginning time.Duration
			n := 0
			for b.Loop() {
				line := 1 + random.Int64N(lines)
				d := took(fmt.Sprintf("?line=%d", line), fmt.Sprintf("close(%d)", line))
				most, all, n = max(most, d), all+d, n+1
				if n == 1 {
					began := time.Now()
					f, err := tracefile.Open(name)
					if err != nil {
						b.Fatal(err)
					}
					all := strace.NewLines(4 << 10)
					for range all.All(f) {
						if all.Number() == line {
							break
						}
					}
					f.Close()
					beginning = time.Since(began) * time.Duration(lines) / time.Duration(line)
				}
			}
			b.ReportMetric(float64(cold.Microseconds())/1000, "cold-ms")
			b.ReportMetric(float64(all.Microseconds())/1000/float64(n), "ms")
			b.ReportMetric(float64(most.Microseconds())/1000, "worst-ms")
			b.ReportMetric(float64(beginning.Milliseconds()), "by-reading-ms") // the last line
			for what, query := range map[string]string{
				"next-ms": fmt.Sprintf("?go=next&line=1&q=close(%d)", lines), "previous-ms": fmt.Sprintf("?go=prev&line=%d&q=close(2)", lines),
				"thread-ms": fmt.Sprintf("?go=prev&line=%d&thread=99", lines),
			} {
				d, rounds := time.Duration(0), 0
				for query != "" {
					began := time.Now()
					_, body := get(b, page+query)
					d += time.Since(began)
					rounds++
					query = strings.TrimPrefix(linkOn(body, "Go on"), "/traces/"+traces[i].Event.ID)
				}
				b.ReportMetric(float64(d.Milliseconds()), what)
				b.Logf("%s in %d pages", what, rounds)
			}
		})
	}
	began := time.Now()
	get(b, fmt.Sprintf("%s/captures/%s/grep?q=close(%d)", at, c.Event.ID, lines))
	b.Logf("the search in both took %s", time.Since(began).Round(time.Millisecond))
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	b.Logf("%.1f MB of memory were taken from the system", float64(m.Sys)/1e6)
}

// longTrace writes a trace, and returns how many lines it has.
func longTrace(b *testing.B, name string, size int) (lines int64) {
	b.Helper()
	f, err := os.Create(name)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	for written := 0; written < size; {
		lines++
		n, err := fmt.Fprintf(w, "%d 1700000000.%06d read(%d</usr/lib/x86_64-linux-gnu/lib%d.so>, \"\\177ELF\\2\\1\\1\\3\\0%x\"..., 832) = 832 <0.000012> close(%d)\n",
			812+lines%7, lines%1e6, lines%9, lines%1013, lines*2654435761, lines)
		if err != nil {
			b.Fatal(err)
		}
		written += n
	}
	if err := w.Flush(); err != nil {
		b.Fatal(err)
	}
	return lines
}
