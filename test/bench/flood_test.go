package bench

import (
	"fmt"
	"testing"
	"time"
)

// burst is how many packets a burst has.
const burst = 25_000

// BenchmarkBurst sends bursts of 25,000 packets into the trigger alone, 100,000 a
// second and as fast as one sender can, and counts what was lost on the way.
func BenchmarkBurst(b *testing.B) {
	for _, perSecond := range []int{100_000, 0} {
		b.Run(rate(perSecond), func(b *testing.B) {
			c, n := parse(b, badzone+"nflog: {rate: 1000000}\n"), newNet(b)
			hits, stop := listen(b, n, c)
			install(b, n, c)
			o := newOffender(b, n, offenderUID)
			sent, got := 0, 0
			var sending, making time.Duration
			for b.Loop() {
				begin := time.Now()
				sending += o.send(b, burst, perSecond, oneSocket)
				sent += burst
				last := begin
				for got < sent {
					select {
					case a := <-hits:
						got++
						last = a.known
						continue
					case <-time.After(time.Second):
					}
					break // what did not come by now is lost
				}
				making += last.Sub(begin)
				got = sent // what is missing is found out at the end
			}
			// A gap shows when the next packet comes.
			o.send(b, 1, 0, oneSocket)
			<-hits
			lost := 0
			for _, n := range stop() {
				lost += int(n)
			}
			b.ReportMetric(float64(sent)/sending.Seconds(), "sent/s")
			b.ReportMetric(float64(sent-lost)/making.Seconds(), "hits/s")
			b.ReportMetric(float64(lost), "lost")
			noTimePerRun(b)
		})
	}
}

func rate(perSecond int) string {
	if perSecond == 0 {
		return "unlimited"
	}
	return fmt.Sprintf("%d-per-s", perSecond)
}

// BenchmarkDaemon floods the whole daemon, catalogue on, with a burst and then
// with a steady 10,000 a second, and counts what reached the catalogue.
func BenchmarkDaemon(b *testing.B) {
	for _, flood := range []struct {
		name             string
		count, perSecond int
	}{
		{"burst-100000-per-s", burst, 100_000},
		{"sustained-10000-per-s", 100_000, 10_000},
	} {
		b.Run(flood.name, func(b *testing.B) {
			n := newNet(b)
			d := start(b, n, badzone+untraced(b))
			o := newOffender(b, n, offenderUID)
			// The first hit also starts the capture.
			o.send(b, 1, 0, oneSocket)
			sent := d.settle(b, o, 1)
			var took, sending, cpu time.Duration
			for b.Loop() {
				before, begin := d.cpu(b), time.Now()
				sending += o.send(b, flood.count, flood.perSecond, oneSocket)
				sent += flood.count
				sent = d.settle(b, o, sent)
				took += time.Since(begin)
				cpu += d.cpu(b) - before
			}
			hits, lost := d.recorded(b)
			d.logLosses(b)
			b.ReportMetric(float64(sent)/sending.Seconds(), "sent/s")
			b.ReportMetric(float64(hits)/took.Seconds(), "catalogued/s")
			b.ReportMetric(float64(lost), "lost")
			b.ReportMetric(float64(cpu.Microseconds())/float64(hits), "us-cpu/hit")
			b.ReportMetric(d.memory(b, "VmHWM"), "MB-peak")
			b.ReportMetric(d.memory(b, "VmRSS"), "MB-after")
			noTimePerRun(b)
		})
	}
}
