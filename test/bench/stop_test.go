package bench

import (
	"os/exec"
	"testing"
	"time"
)

// everywhere is the rule of config.example.yaml for all network namespaces.
const everywhere = badzone + "namespaces: all\n"

// atOnce lets the first hit trace all processes of its user.
const atOnce = "capture: {levels: [{hits: 1, processes: 500, window: 1m, strings: 512}]}\n"

// BenchmarkStop measures how long a daemon takes to end, from SIGTERM until it is gone: one that has nothing to do, one that traces
// ten processes, and both once more while it looks at all network namespaces, of which there are twenty.
func BenchmarkStop(b *testing.B) {
	const rounds = 20
	var idle time.Duration
	uid := offenderUID
	for _, v := range []struct {
		name, config       string
		traces, namespaces int
	}{
		{"idle", badzone, 0, 0},
		{"10-traces", badzone + atOnce, 10, 0},
		{"20-namespaces", everywhere, 0, 20},
		{"20-namespaces-10-traces", everywhere + atOnce, 10, 20},
	} {
		b.Run(v.name, func(b *testing.B) {
			n := newNet(b)
			for range v.namespaces {
				idleNamespace(b)
			}
			var took []time.Duration
			for b.Loop() {
				for range rounds {
					uid++
					d := start(b, n, v.config)
					var offenders []*exec.Cmd
					if v.traces > 0 {
						o := newOffender(b, n, uid)
						offenders = append(sleepers(b, uid, v.traces-1), o.Cmd)
						o.send(b, 1, 0, oneSocket)
						allTraced(b, offenders)
					}
					began := time.Now()
					d.stop()
					took = append(took, time.Since(began))
					kill(offenders)
				}
			}
			reportMS(b, "", took)
			p50 := quantile(took, 0.5)
			if v.name == "idle" {
				idle = p50
			}
			b.ReportMetric(float64(p50)/float64(idle), "ratio-to-idle")
			noTimePerRun(b)
		})
	}
}
