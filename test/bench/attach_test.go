package bench

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"culprit/evidence/catalogue"
)

// asUser makes a command that runs as a UID.
func asUser(uid int, name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)},
	}
	return cmd
}

// allTraced waits until a tracer is on every process, and returns when it was.
func allTraced(b *testing.B, processes []*exec.Cmd) time.Time {
	b.Helper()
	await(b, "a strace on each process", 200*time.Microsecond, func() bool {
		for len(processes) > 0 {
			if tracer := field(fmt.Sprintf("/proc/%d/status", processes[0].Process.Pid), "TracerPid"); tracer == "0" || tracer == "" {
				return false
			}
			processes = processes[1:]
		}
		return true
	})
	return time.Now()
}

// noStraces waits until a process has no straces as children any more.
func noStraces(b *testing.B, pid int) {
	b.Helper()
	await(b, "the straces to end", time.Millisecond, func() bool {
		return exec.Command("pgrep", "-x", "-P", strconv.Itoa(pid), "strace").Run() != nil
	})
}

// BenchmarkAttach measures how long after a packet its sender is traced, and every
// one of its user's 10 processes, the sender among them. To compare with, the UID is known
// already, and a shell loop starts the straces (shell), or there is only one
// strace for all of them (single), which would mix their traces.
func BenchmarkAttach(b *testing.B) {
	const processes, rounds = 10, 50
	n := newNet(b)
	// A sender that is frozen waits for its call stack, and eu-stack takes 0.1 s for this program's symbols: that is what BenchmarkTake measures.
	d := start(b, n, badzone+"capture: {freeze: 'off', concurrent: 64, levels: [{hits: 1, processes: 500, window: 1s, strings: 512}]}\n")
	uid := offenderUID
	by := func(command string) time.Duration {
		uid++
		offenders := sleepers(b, uid, processes)
		cmd := exec.Command("sh", "-c", command, "sh", strconv.Itoa(uid))
		begin := time.Now()
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		took := allTraced(b, offenders).Sub(begin)
		kill(offenders)
		cmd.Wait()
		return took
	}
	var ours, senders, loops, singles []time.Duration
	for b.Loop() {
		for range rounds {
			uid++ // a user of its own, so that each packet starts a capture
			o := newOffender(b, n, uid)
			offenders := append(sleepers(b, uid, processes-1), o.Cmd)
			begin := time.Now()
			o.send(b, 1, 0, oneSocket)
			senders = append(senders, allTraced(b, []*exec.Cmd{o.Cmd}).Sub(begin))
			ours = append(ours, allTraced(b, offenders).Sub(begin))
			kill(offenders)
			noStraces(b, d.pid)

			const strace = "strace -f -ttt -T -yy -v -s 512 -o /dev/null "
			loops = append(loops, by("for p in $(pgrep -u $1); do "+strace+"-p $p & done; wait"))
			singles = append(singles, by(strace+`-p "$(pgrep -u $1)"`))
		}
	}
	reportMS(b, "", ours)
	reportMS(b, "sender-", senders)
	reportMS(b, "shell-", loops)
	reportMS(b, "single-", singles)
	b.ReportMetric(float64(quantile(ours, 0.5))/float64(quantile(loops, 0.5)), "ratio-to-shell")
	reportWays(b, d.evidence)
	noTimePerRun(b)
}

// reportWays reports, from the catalogue, where the time of an attachment goes:
// from the packet being read to its capture starting, from there to the last
// process having been found, and from being found to being traced.
func reportWays(b *testing.B, dir string) {
	b.Helper()
	r, err := catalogue.OpenReader(dir)
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	read, started, found := map[string]time.Time{}, map[string]time.Time{}, map[string]time.Time{}
	var origin, search []time.Duration
	var attach []float64
	for h, err := range r.Hits(catalogue.Filter{}) {
		if err != nil {
			b.Fatal(err)
		}
		if h.Culprit.Capture != nil {
			read[h.Culprit.Capture.ID] = h.Timestamp
		}
	}
	for c, err := range r.Captures(catalogue.Filter{}) {
		if err != nil {
			b.Fatal(err)
		}
		started[c.Event.ID] = c.Timestamp
		origin = append(origin, c.Timestamp.Sub(read[c.Event.ID]))
	}
	for t, err := range r.Traces(catalogue.Filter{}) {
		if err != nil {
			b.Fatal(err)
		}
		id := t.Culprit.Capture.ID
		if t.Timestamp.After(found[id]) {
			found[id] = t.Timestamp
		}
		attach = append(attach, t.Culprit.AttachMS)
	}
	for id, last := range found {
		search = append(search, last.Sub(started[id]))
	}
	b.ReportMetric(ms(quantile(origin, 0.5)), "hit-to-capture-ms")
	b.ReportMetric(ms(quantile(search, 0.5)), "capture-to-found-ms")
	b.ReportMetric(quantile(attach, 0.5), "found-to-traced-ms")
}

// BenchmarkTraced measures how much longer a program takes while culprit traces
// it: one that does nothing but system calls, 40,000 of them, one that starts and
// ends, and one that computes. To compare with, a bare strace writes to a file.
func BenchmarkTraced(b *testing.B) {
	for _, program := range []struct{ name, command string }{
		{"system-calls-only", "dd if=/dev/zero of=/dev/null bs=1 count=20000 status=none"},
		{"python-start", `python3 -c "import json, socket, urllib.request"`},
		{"computing", `i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done`},
	} {
		b.Run(program.name, func(b *testing.B) {
			n := newNet(b)
			start(b, n, badzone+"capture: {levels: [{hits: 1, processes: 500, window: 1m, strings: 512}]}\n")
			uid := offenderUID
			var free, traced, bare []float64
			for b.Loop() {
				for range 3 {
					uid++
					free = append(free, ms(timed(b, program.command, uid, func(*exec.Cmd) {})))
					bare = append(bare, ms(timed(b, program.command, uid, func(cmd *exec.Cmd) {
						strace := exec.Command("strace", "-f", "-ttt", "-T", "-yy", "-v", "-s", "512",
							"-o", filepath.Join(b.TempDir(), "trace"), "-p", strconv.Itoa(cmd.Process.Pid))
						if err := strace.Start(); err != nil {
							b.Fatal(err)
						}
						b.Cleanup(func() { strace.Wait() })
						allTraced(b, []*exec.Cmd{cmd})
					})))
					traced = append(traced, ms(timed(b, program.command, uid, func(cmd *exec.Cmd) {
						newOffender(b, n, uid).send(b, 1, 0, oneSocket)
						allTraced(b, []*exec.Cmd{cmd})
					})))
				}
			}
			b.ReportMetric(quantile(free, 0.5), "free-ms")
			b.ReportMetric(quantile(traced, 0.5), "traced-ms")
			b.ReportMetric(quantile(bare, 0.5), "bare-strace-ms")
			b.ReportMetric(quantile(traced, 0.5)/quantile(free, 0.5), "ratio")
			b.ReportMetric(quantile(traced, 0.5)/quantile(bare, 0.5), "ratio-to-strace")
			noTimePerRun(b)
		})
	}
}

// timed runs a shell command as a UID. It starts when prepared is done; how long
// it took from then on is returned.
func timed(b *testing.B, command string, uid int, prepare func(*exec.Cmd)) time.Duration {
	b.Helper()
	cmd := asUser(uid, "sh", "-c", "read go; "+command)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	defer kill([]*exec.Cmd{cmd})
	prepare(cmd)
	begin := time.Now()
	fmt.Fprintln(stdin, "go")
	if err := cmd.Wait(); err != nil {
		b.Fatal(err)
	}
	return time.Since(begin)
}
