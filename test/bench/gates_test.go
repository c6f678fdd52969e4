package bench

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"culprit/internal/testkit"
)

// gates are the ways of holding programs that are compared.
var gates = []string{"bpf", "fanotify"}

// BenchmarkGates compares the ways of holding programs at their start, in one run: what is caught,
// how long programs are held, and what others pay for it, next to what they pay without a daemon.
func BenchmarkGates(b *testing.B) {
	count, _ := strconv.Atoi(os.Getenv(catchEnv))
	if count <= 0 {
		b.Skip("run it with make bench-gates, or give " + catchEnv)
	}
	p := catchPrograms(b)
	rows := map[string][]result{}
	command := []string{"OFFENDER", "-n", "@.badzone.test"}
	for i, w := range []way{
		{name: "sends at once and ends", atATime: 1, mode: "exec", command: command},
		{name: "sends at once and ends", atATime: 16, mode: "exec", command: command},
		{name: "sends at once and ends", atATime: 64, mode: "exec", command: command},
		{name: "fork without exec, parent is root", atATime: 1, mode: "fork"},
		{name: "fork without exec, parent is root", atATime: 16, mode: "fork"},
	} {
		for _, gate := range gates {
			w.gate = gate
			b.Run(fmt.Sprintf("%s/%d-at-a-time/%s", strings.NewReplacer(" ", "-", ",", "").Replace(w.name), w.atATime, gate), func(b *testing.B) {
				r := catch(b, p, w, fmt.Sprintf("r%02d", i), count)
				r.report(b)
				rows[gate] = append(rows[gate], r)
			})
		}
	}
	t := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\nprogram\tat a time\tstarted\ttraced\tfrom start\twith its query\theld p50\theld p99\tlife p50\tprograms/s")
	for _, gate := range gates {
		fmt.Fprintln(t, strings.ToUpper(gate)+strings.Repeat("\t", 9))
		for _, r := range rows[gate] {
			r.print(t)
		}
	}
	t.Flush()
	b.Run("others", func(b *testing.B) {
		payOthers(b, p, max(200, count/2))
		noTimePerRun(b)
	})
}

// payOthers measures what a program of another user takes from fork to end and what a system call
// costs, without a daemon, and with a capture live, by turns.
func payOthers(b *testing.B, p catchPaths, count int) {
	const rounds = 5
	n := newNet(b)
	programs, calls := map[string][]time.Duration{}, map[string][]time.Duration{}
	measure := func(what string) {
		var all []time.Duration
		for _, r := range p.launcher(b, n, false, offenderUID+1, "exec", count, 1, "r98", p.launch, "noop").run(b).programs {
			all = append(all, r.took)
		}
		programs[what] = append(programs[what], quantile(all, 0.5))
		calls[what] = append(calls[what], p.call(b, n))
	}
	all := append([]string{"off"}, gates...)
	for range rounds {
		measure("none")
		for _, gate := range all {
			d := startCatcher(b, n, gate)
			measure(gate + ", no capture")
			d.firstHit(b, n, p)
			measure(gate + ", a capture live")
			d.stop(b)
		}
	}
	fmt.Printf("\n%-26s %26s %14s\n", "others, with", "program, fork to end, p50", "a system call")
	rows := []string{"none"}
	for _, gate := range all {
		rows = append(rows, gate+", no capture", gate+", a capture live")
	}
	for _, what := range rows {
		fmt.Printf("%-26s %23.0f µs %11d ns\n", what, float64(quantile(programs[what], 0.5).Nanoseconds())/1000, quantile(calls[what], 0).Nanoseconds())
	}
}

// call measures what a getppid(2) of another user takes.
func (p catchPaths) call(b *testing.B, n *testkit.Net) time.Duration {
	b.Helper()
	cmd := exec.Command(p.launch, "calls")
	var out strings.Builder
	cmd.Stdout = &out
	if err := n.Start(cmd); err != nil {
		b.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		b.Fatal(err)
	}
	ns, err := strconv.Atoi(strings.TrimSpace(out.String()))
	if err != nil {
		b.Fatal(err)
	}
	return time.Duration(ns)
}
