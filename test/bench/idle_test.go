package bench

import (
	"os/exec"
	"strconv"
	"testing"
	"time"
)

// BenchmarkIdle measures a daemon that waits for hits: CPU, wake-ups, memory. Then
// the same while packets pass that do not match. For comparison, what the old
// trick costs: looking at the process list ten times a second.
func BenchmarkIdle(b *testing.B) {
	const watch = 5 * time.Second
	n := newNet(b)
	d, o := start(b, n, badzone), newOffender(b, n, offenderUID)
	time.Sleep(time.Second) // what starting has left to do
	for b.Loop() {
		cpu, wakeups := d.cpu(b), d.wakeups(b)
		time.Sleep(watch)
		b.ReportMetric(percent(d.cpu(b)-cpu, watch), "%-cpu-idle")
		b.ReportMetric(float64(d.wakeups(b)-wakeups)/watch.Seconds(), "wakeups/s")
		b.ReportMetric(d.memory(b, "VmRSS"), "MB")

		cpu = d.cpu(b)
		took := o.sendZone(b, 30_000, 10_000, oneSocket, "goodzone")
		b.ReportMetric(percent(d.cpu(b)-cpu, took), "%-cpu-no-match")
		if hits, _ := d.recorded(b); hits > 0 {
			b.Fatalf("%d hits of packets that do not match", hits)
		}

		var spent time.Duration
		begin := time.Now()
		for time.Since(begin) < 2*time.Second {
			ps := exec.Command("pgrep", "-u", strconv.Itoa(offenderUID))
			ps.Run()
			spent += ps.ProcessState.UserTime() + ps.ProcessState.SystemTime()
			time.Sleep(100 * time.Millisecond)
		}
		b.ReportMetric(percent(spent, time.Since(begin)), "%-cpu-pgrep-loop")
	}
	noTimePerRun(b)
}

func percent(part, whole time.Duration) float64 { return 100 * float64(part) / float64(whole) }
