package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"culprit/internal/testkit"
)

// BenchmarkGatesOtherContainer measures what a program of the captured user pays that is in another container, by
// each way of holding programs: it is held until its cgroup was looked at, and not traced. Without a daemon and
// without holds in the same run.
func BenchmarkGatesOtherContainer(b *testing.B) {
	count, _ := strconv.Atoi(os.Getenv(catchEnv))
	if count <= 0 {
		b.Skip("run it with make bench-gates, or give " + catchEnv)
	}
	p, n := catchPrograms(b), newNet(b)
	id := strings.Repeat("0c", 32)
	dir := testkit.Cgroup(b, filepath.Join(testkit.CgroupRoots(b)[0], fmt.Sprintf("culprit-bench-%d/libpod-%s.scope", os.Getpid(), id)))
	took := map[string][]time.Duration{}
	measure := func(what string) {
		l := p.launcher(b, n, false, offenderUID, "exec", max(50, count/5), 1, "r97", p.launch, "noop")
		testkit.Enter(b, dir, l.cmd.Process.Pid)
		for _, r := range l.run(b).programs {
			took[what] = append(took[what], r.took)
		}
	}
	ways := append([]string{"off"}, gates...)
	for range 5 {
		measure("none")
		for _, gate := range ways {
			d := startCatcher(b, n, gate)
			d.firstHit(b, n, p)
			measure(gate)
			if traces := d.traces(b); len(traces) > 1 {
				b.Errorf("%s: %d traces, want that of the first hit at most", gate, len(traces))
			}
			d.stop(b)
		}
	}
	fmt.Printf("\n%-12s %12s %12s\n", "gate", "p50", "p99")
	for _, what := range append([]string{"none"}, ways...) {
		fmt.Printf("%-12s %9.0f µs %9.0f µs\n", what, 1000*ms(quantile(took[what], 0.5)), 1000*ms(quantile(took[what], 0.99)))
	}
	noTimePerRun(b)
}
