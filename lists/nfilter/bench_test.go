package nfilter

import (
	"fmt"
	"testing"
	"time"

	"culprit/lists/format"
	"culprit/lists/set"
	"culprit/lists/set/settest"
)

// BenchmarkFilter measures what the program takes for the message of a question that is not listed, by a list of one name and of
// a million, in turns.
func BenchmarkFilter(b *testing.B) {
	filters := map[int]*Filter{}
	for _, n := range []int{1, 1_000_000} {
		var entries []format.Entry
		for i := range n {
			entries = append(entries, format.Entry{Name: fmt.Sprintf("n%d.feed.example", i), Kind: format.Whole})
		}
		filters[n], _ = mustLoad(b, map[string]*set.Set{"list": settest.New(b, entries...)})
	}
	const repeat = 10000
	data := append(make([]byte, 14), message("list", udp4(edns(query("www.good.name.example"))))...)
	took := map[int]time.Duration{}
	for b.Loop() {
		for n, f := range filters {
			_, one, err := f.Program().Benchmark(data, repeat, nil)
			if err != nil {
				b.Fatal(err)
			}
			took[n] += one
		}
	}
	for n, all := range took {
		b.ReportMetric(float64(all.Nanoseconds())/float64(b.N), fmt.Sprintf("ns/%d", n))
	}
	b.ReportMetric(float64(took[1_000_000])/float64(took[1]), "ratio/1M-to-1")
	b.ReportMetric(0, "ns/op")
}
