package bench

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"culprit/internal/testkit"
)

// elsewhere hunts in all network namespaces for the packets of the hidden command offender, whose names say when they were sent.
const elsewhere = `rules: [{name: selftest, domain: selftest.culprit.invalid}]
namespaces: all
capture: {concurrent: 512}
`

// BenchmarkNamespaces measures what idle network namespaces cost a daemon that looks at all of them: its start, memory,
// descriptors and CPU, with none and with 500; and for comparison one that looks at the host's alone.
func BenchmarkNamespaces(b *testing.B) {
	for _, v := range []struct {
		name, config string
		count        int
	}{
		{"host", strings.Replace(elsewhere, "all", "host", 1), 0},
		{"all-0", elsewhere, 0},
		{"all-500", elsewhere, 500},
	} {
		b.Run(v.name, func(b *testing.B) {
			const watch = 3 * time.Second
			n := newNet(b)
			for range v.count {
				idleNamespace(b)
			}
			began := time.Now()
			d := start(b, n, v.config)
			ready := time.Since(began)
			time.Sleep(time.Second) // what starting has left to do
			for b.Loop() {
				cpu, wakeups := d.cpu(b), d.wakeups(b)
				time.Sleep(watch)
				b.ReportMetric(percent(d.cpu(b)-cpu, watch), "%-cpu-idle")
				b.ReportMetric(float64(d.wakeups(b)-wakeups)/watch.Seconds(), "wakeups/s")
			}
			b.ReportMetric(ms(ready), "start-ms")
			b.ReportMetric(d.memory(b, "VmRSS"), "MB")
			fds, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", d.pid))
			b.ReportMetric(float64(len(fds)), "descriptors")
			noTimePerRun(b)
		})
	}
}

// idleNamespace makes a network namespace with one process that sleeps.
func idleNamespace(b *testing.B) {
	b.Helper()
	cmd := exec.Command("sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
}

// BenchmarkCovered starts 200 programs, each in a network namespace that is made for it, as a container is, which send one packet as
// soon as they can. It counts whose packet is a hit that names him, in the right namespace, and measures the time from starting to that packet,
// and from the packet to the hit.
func BenchmarkCovered(b *testing.B) {
	const count, atOnce = 200, 4
	n := testkit.NewNet(b)
	d := start(b, n, elsewhere)
	program := filepath.Join(b.TempDir(), "culprit")
	if out, err := exec.Command("cp", binary(b), program).CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	type sender struct {
		pid   int
		began time.Time
		netns string
	}
	for b.Loop() {
		senders := make([]sender, count)
		turns := make(chan int)
		done := make(chan error, atOnce)
		for range atOnce {
			go func() {
				for i := range turns {
					// The packet is refused, as nobody listens.
					cmd := exec.Command("unshare", "--net", "sh", "-c", "ip link set lo up; readlink /proc/self/ns/net; exec "+
						program+" offender --server 127.0.0.1 --transport udp --label n"+strconv.Itoa(i))
					var out strings.Builder
					cmd.Stdout = &out
					senders[i].began = time.Now()
					if err := cmd.Start(); err != nil {
						done <- err
						return
					}
					senders[i].pid = cmd.Process.Pid
					cmd.Wait()
					senders[i].netns = strings.Trim(out.String(), "net:[]\n")
				}
				done <- nil
			}()
		}
		for i := range count {
			turns <- i
		}
		close(turns)
		for range atOnce {
			if err := <-done; err != nil {
				b.Fatal(err)
			}
		}
		await(b, "all are hits", 50*time.Millisecond, func() bool {
			hits, lost := d.recorded(b)
			return hits+lost >= count
		})
		var sent, seen []time.Duration
		named := 0
		rows, err := d.db.Query(`SELECT doc->>'$.dns.question.name', doc->>'$."@timestamp"', coalesce(doc->>'$.process.pid', 0), coalesce(doc->>'$.culprit.netns.inode', '') FROM hits`)
		if err != nil {
			b.Fatal(err)
		}
		for rows.Next() {
			var name, at, netns string
			var pid int
			if err := rows.Scan(&name, &at, &pid, &netns); err != nil {
				b.Fatal(err)
			}
			stamp, rest, _ := strings.Cut(strings.TrimPrefix(name, "t"), ".n")
			label, _, _ := strings.Cut(rest, ".")
			ns, _ := strconv.ParseInt(stamp, 10, 64)
			i, err := strconv.Atoi(label)
			hit, timeErr := time.Parse(time.RFC3339Nano, at)
			if err != nil || timeErr != nil || i >= count {
				b.Fatalf("a hit of %s at %s", name, at)
			}
			sent = append(sent, time.Unix(0, ns).Sub(senders[i].began))
			seen = append(seen, hit.Sub(time.Unix(0, ns)))
			if pid == senders[i].pid && netns == senders[i].netns {
				named++
			}
		}
		if err := rows.Close(); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(named), "of-200-named")
		reportMS(b, "start-to-packet-", sent)
		reportMS(b, "packet-to-hit-", seen)
		if len(sent) < count {
			d.logLosses(b)
		}
	}
	noTimePerRun(b)
}
