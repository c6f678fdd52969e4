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
)

// catchEnv says how many two-millisecond programs BenchmarkCatch starts a row.
// Without it the benchmark is left out: it takes minutes.
const catchEnv = "CATCH_N"

// catchConfig is one level that takes all that comes.
const catchConfig = badzone + `nflog: {rate: 100000}
capture:
  levels: [{hits: 1, processes: 100000, window: 10m, strings: 512}]
  concurrent: 64
`

// A way is one way in which programs of a user come to send a query.
type way struct {
	name    string
	atATime int
	main    bool   // one of the two-millisecond rows, with more programs
	mode    string // of the launcher: exec or fork
	asUser  bool   // the launcher is the user's own and was there before the first hit
	each    int    // programs that each command starts; 0: it is the program
	command []string
	gate    string // capture.gate; "": as it is by default
}

// ways are the rows. OFFENDER and DIR are replaced, @ becomes a program's label.
var ways = []way{
	{name: "sends at once and ends", atATime: 1, main: true, mode: "exec", command: []string{"OFFENDER", "-n", "@.badzone.test"}},
	{name: "sends at once and ends", atATime: 16, main: true, mode: "exec", command: []string{"OFFENDER", "-n", "@.badzone.test"}},
	{name: "waits 20 ms, then sends", atATime: 1, mode: "exec", command: []string{"OFFENDER", "-b", "20", "-n", "@.badzone.test"}},
	{name: "waits 20 ms, then sends", atATime: 16, mode: "exec", command: []string{"OFFENDER", "-b", "20", "-n", "@.badzone.test"}},
	{name: "sends, lives on for 50 ms", atATime: 1, mode: "exec", command: []string{"OFFENDER", "-a", "50", "-n", "@.badzone.test"}},
	{name: "sends, lives on for 50 ms", atATime: 16, mode: "exec", command: []string{"OFFENDER", "-a", "50", "-n", "@.badzone.test"}},
	{name: "started by sh -c", atATime: 1, mode: "exec", each: 1, command: []string{"/bin/sh", "-c", "OFFENDER -n @.badzone.test; true"}},
	{name: "started by sh -c", atATime: 16, mode: "exec", each: 1, command: []string{"/bin/sh", "-c", "OFFENDER -n @.badzone.test; true"}},
	{name: "cron: root, setuid, sh -c", atATime: 1, mode: "exec", each: 1, command: []string{"/usr/bin/setsid", "-w", "/bin/sh", "-c", "OFFENDER -n @.badzone.test"}},
	{name: "php: exec, shell_exec, popen", atATime: 1, mode: "exec", each: 3, command: []string{"/usr/bin/php", "DIR/catch.php", "OFFENDER", "@"}},
	{name: "php: exec, shell_exec, popen", atATime: 4, mode: "exec", each: 3, command: []string{"/usr/bin/php", "DIR/catch.php", "OFFENDER", "@"}},
	{name: "fork without exec, parent of the user", atATime: 1, mode: "fork", asUser: true},
	{name: "fork without exec, parent of the user", atATime: 16, mode: "fork", asUser: true},
	{name: "fork without exec, parent is root", atATime: 1, mode: "fork"},
	{name: "fork without exec, parent is root", atATime: 16, mode: "fork"},
}

// catchPHP starts the offender three times.
const catchPHP = `<?php
[, $offender, $label] = $argv;
exec("$offender -n {$label}a.badzone.test", $out, $status) !== false && $status === 0 || exit(1);
shell_exec("$offender -n {$label}b.badzone.test");
pclose(popen("$offender -n {$label}c.badzone.test", "r")) === 0 || exit(3);
`

// BenchmarkCatch counts how many programs of a captured user are traced, from their
// first instruction and with their query, however shortly they live; what that
// costs them, and what it costs the programs of others. To compare with, the same
// programs meet the old trick: a loop over /proc that starts strace -p.
func BenchmarkCatch(b *testing.B) {
	count, _ := strconv.Atoi(os.Getenv(catchEnv))
	if count <= 0 {
		b.Skip("run it with make bench-catch, or give " + catchEnv)
	}
	few := max(1, min(200, count))
	p := catchPrograms(b)
	// What strace takes to start and end, next to which the holds are to be judged.
	startUp := make([]time.Duration, 0, 200)
	for _, r := range p.launcher(b, newNet(b), false, 0, "exec", 200, 1, "r99", "/usr/bin/strace", "-V").run(b).programs {
		startUp = append(startUp, r.took)
	}
	strace := quantile(startUp, 0.5)

	var ours, old []result
	for i, w := range ways {
		if _, err := os.Stat(first(w.command)); w.mode == "exec" && first(w.command)[0] == '/' && err != nil {
			b.Logf("left out: %s: %v", w.name, err)
			continue
		}
		n := few
		if w.main {
			n = count
		}
		label := fmt.Sprintf("%s/%d-at-a-time", strings.NewReplacer(" ", "-", ",", "", ":", "").Replace(w.name), w.atATime)
		b.Run("culprit/"+label, func(b *testing.B) {
			r := catch(b, p, w, fmt.Sprintf("r%02d", i), n)
			r.report(b)
			ours = append(ours, r)
		})
		b.Run("old-trick/"+label, func(b *testing.B) {
			r := catchByPolling(b, p, w, fmt.Sprintf("r%02d", i+len(ways)), few)
			r.report(b)
			old = append(old, r)
		})
	}
	var others [4]time.Duration
	b.Run("others", func(b *testing.B) {
		others = catchOthers(b, p, min(2000, max(few, count/2)))
		for i, name := range []string{"no-daemon-us", "no-capture-us", "capture-us", "no-daemon-again-us"} {
			b.ReportMetric(float64(others[i].Nanoseconds())/1000, name)
		}
		noTimePerRun(b)
	})

	t := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\nprogram\tat a time\tstarted\ttraced\tfrom start\twith its query\theld p50\theld p99\tlife p50\tprograms/s")
	fmt.Fprintln(t, "CULPRIT"+strings.Repeat("\t", 9))
	for _, r := range ours {
		r.print(t)
	}
	fmt.Fprintln(t, "THE OLD TRICK"+strings.Repeat("\t", 9))
	for _, r := range old {
		r.print(t)
	}
	t.Flush()
	us := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }
	fmt.Printf("\nstrace -V, from fork to end, p50: %.2f ms", ms(strace))
	if len(ours) > 0 && len(ours[0].holds) > 0 {
		fmt.Printf("; the first row's hold p50 is %.2f times as long", quantile(ours[0].holds, 0.5)/ms(strace))
	}
	fmt.Printf("\na program of another user, from fork to end, p50: no daemon %.0f µs; no capture %.0f µs; a capture live %.0f µs; no daemon again %.0f µs\n\n",
		us(others[0]), us(others[1]), us(others[2]), us(others[3]))
}

func first(s []string) string {
	if len(s) == 0 {
		return "-"
	}
	return s[0]
}

// A result is a row of the table.
type result struct {
	way
	started, traced, fromStart, queries int
	holds                               []float64 // milliseconds
	life                                time.Duration
	perSecond                           float64
}

func (r *result) report(b *testing.B) {
	b.ReportMetric(float64(r.started), "started")
	b.ReportMetric(float64(r.traced), "traced")
	b.ReportMetric(float64(r.fromStart), "from-start")
	b.ReportMetric(float64(r.queries), "queries")
	if len(r.holds) > 0 {
		b.ReportMetric(quantile(r.holds, 0.5), "held-p50-ms")
		b.ReportMetric(quantile(r.holds, 0.99), "held-p99-ms")
	}
	b.ReportMetric(r.perSecond, "programs/s")
	noTimePerRun(b)
}

func (r *result) print(t *tabwriter.Writer) {
	p50, p99 := "-", "-"
	if len(r.holds) > 0 {
		p50, p99 = fmt.Sprintf("%.1f ms", quantile(r.holds, 0.5)), fmt.Sprintf("%.1f ms", quantile(r.holds, 0.99))
	}
	fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%d\t%s\t%s\t%.1f ms\t%.0f\n",
		r.name, r.atATime, r.started, r.traced, r.fromStart, r.queries, p50, p99, ms(r.life), r.perSecond)
}

// catch lets culprit meet programs that start in one way.
func catch(b *testing.B, p catchPaths, w way, prefix string, count int) result {
	n := newNet(b)
	d := startCatcher(b, n, w.gate)
	l := p.start(b, n, w, prefix, count)
	d.firstHit(b, n, p)
	if w.asUser {
		allTraced(b, []*exec.Cmd{l.cmd})
	}
	done := l.run(b)
	noStraces(b, d.pid())
	d.stop(b)

	seen := sightings{}
	r := done.result(w)
	late := map[string]int{} // by how the program was found
	for _, tr := range d.traces(b) {
		if tr.Culprit.FromStart { // it was held
			r.holds = append(r.holds, tr.Culprit.AttachMS)
		} else {
			late[tr.Culprit.FoundBy]++
		}
		if tr.Culprit.State != "ended" || tr.Culprit.Lost != 0 {
			b.Errorf("the trace of %s is not whole: %s, %q, %d bytes lost", tr.Process.String(), tr.Culprit.State, tr.Culprit.EndedBecause, tr.Culprit.Lost)
		}
		seen.read(b, tr.File.Path, tr.Process.PID, tr.Culprit.FromStart, tr.Process.CommandLine)
	}
	seen.count(&r, done)
	if len(late) > 0 {
		b.Logf("traces that do not say that they are from the start, by how the program was found: %v", late)
	}
	d.logMissed(b, r)
	return r
}
