package bench

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// BenchmarkListsPacket measures what one sendto of a DNS question costs its sender, and how much CPU the daemon takes
// for it, when the name is not looked for: by a string, by a list with one name, and by one with a million.
//
// They are measured in turns, each in a namespace of its own with a daemon of its own, so that what else the machine does
// falls on all of them alike.
func BenchmarkListsPacket(b *testing.B) {
	const perTurn = 500
	list := func(names int) string {
		var text strings.Builder
		for i := range names {
			fmt.Fprintf(&text, "n%d.feed.example\n", i)
		}
		return "rules: [{name: feed, list: " + write(b, "feed.txt", text.String()) + "}]\n"
	}
	variants := []*struct {
		name, config string
		conn         *net.UDPConn
		daemon       *daemon
		perSend      []time.Duration
	}{
		{name: "none"},
		{name: "string", config: badzone},
		{name: "list-1", config: list(1)},
		{name: "list-1M", config: list(1_000_000)},
	}
	for i, v := range variants {
		n := newNet(b)
		if v.config != "" {
			v.daemon = start(b, n, v.config+fmt.Sprintf("firewall: {chain: BENCH%d}\nlookback: {users: []}\n", i))
		}
		v.conn = dial(b, n, 53)
	}
	question := []byte("\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x04good\x04name\x07example\x00\x00\x01\x00\x01")
	cpu := map[string]time.Duration{}
	sent := 0
	for b.Loop() {
		for _, v := range variants {
			before := cpuOf(b, v.daemon)
			start := time.Now()
			for range perTurn {
				if _, err := v.conn.Write(question); err != nil {
					b.Fatal(err)
				}
			}
			v.perSend = append(v.perSend, time.Since(start)/perTurn)
			await(b, "the daemon to have nothing to do", 20*time.Millisecond, func() bool {
				was := before
				before = cpuOf(b, v.daemon)
				cpu[v.name] += before - was
				return before == was
			})
		}
		sent += perTurn
	}
	ns := map[string]float64{}
	for _, v := range variants {
		ns[v.name] = float64(quantile(v.perSend, 0.5))
		if v.name != "none" {
			b.ReportMetric(ns[v.name]-ns["none"], "ns-more/"+v.name)
			b.ReportMetric(float64(cpu[v.name].Nanoseconds())/float64(sent), "daemon-ns/"+v.name)
		}
	}
	b.ReportMetric(ns["none"], "ns/send")
	b.ReportMetric(ns["list-1M"]/ns["list-1"], "ratio/1M-to-1")
	noTimePerRun(b)
}

// cpuOf returns the CPU time of all threads of a daemon, from /proc/PID/schedstat of each.
func cpuOf(b *testing.B, d *daemon) (all time.Duration) {
	b.Helper()
	if d == nil {
		return 0
	}
	tasks := fmt.Sprintf("/proc/%d/task", d.pid)
	threads, err := os.ReadDir(tasks)
	if err != nil {
		b.Fatal(err)
	}
	for _, t := range threads {
		text, err := os.ReadFile(tasks + "/" + t.Name() + "/schedstat")
		if err != nil {
			continue // it has ended
		}
		ns, err := strconv.ParseInt(strings.Fields(string(text))[0], 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		all += time.Duration(ns)
	}
	return all
}
