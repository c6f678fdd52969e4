package bench

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"
)

// firstConfig has captures that end a second after their hit: there are 500 at most.
const firstConfig = badzone + `nflog: {rate: 100000}
sensor: %s
capture:
  levels: [{hits: 1, processes: 10, window: 1s, strings: 512}]
  linger: 0s
  concurrent: 64
`

// BenchmarkCatchFirst counts how many first packets of users whom nobody watched name their
// sender, and how many of these senders stood still until strace was on them, with a snapshot. Each
// is a two-millisecond program of a new user.
func BenchmarkCatchFirst(b *testing.B) {
	count, _ := strconv.Atoi(os.Getenv(catchEnv))
	if count <= 0 {
		b.Skip("run it with make bench-catch, or give " + catchEnv)
	}
	p := catchPrograms(b)
	for _, way := range []string{"nflog", "rule", "mark", "off"} {
		for _, atATime := range []int{1, 16} {
			b.Run(fmt.Sprintf("%s/%d-at-a-time", way, atATime), func(b *testing.B) {
				n := newNet(b)
				d := start(b, n, fmt.Sprintf(firstConfig, way))
				l := p.launcher(b, n, false, newcomerUID, "exec+", count, atATime, "r00", p.offender, "-n", "@.badzone.test")
				done := l.run(b)
				for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
					if d.count(b, "SELECT count(*) FROM hits") >= count && d.count(b, "SELECT count(*) FROM captures WHERE state <> 'ended'") == 0 {
						break
					}
				}
				r := d.firsts(b, done)
				b.ReportMetric(float64(len(done.programs)), "started")
				b.ReportMetric(float64(r.named), "named")
				b.ReportMetric(float64(r.wrong), "named-wrongly")
				b.ReportMetric(float64(r.frozen), "traced-from-packet")
				b.ReportMetric(float64(r.snapshots), "snapshots")
				b.ReportMetric(float64(r.stacks), "with-stack")
				b.ReportMetric(float64(len(done.programs))/done.took.Seconds(), "programs/s")
				if len(r.attach) > 0 {
					b.ReportMetric(quantile(r.attach, 0.5), "stood-p50-ms")
					b.ReportMetric(quantile(r.attach, 0.99), "stood-p99-ms")
				}
				noTimePerRun(b)
			})
		}
	}
}

// firsts is what the evidence says of first packets.
type firsts struct {
	named, wrong, frozen, snapshots, stacks int
	attach                                  []float64 // milliseconds
}

// firsts looks at what is recorded of the programs that were launched.
func (d *daemon) firsts(b *testing.B, done allLaunched) (r firsts) {
	b.Helper()
	rows, err := d.db.Query(`SELECT doc ->> '$.dns.question.name', coalesce(doc ->> '$.process.pid', 0), doc ->> '$.culprit.origin.grade' FROM hits`)
	if err != nil {
		b.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var name, grade string
		var pid int
		if err := rows.Scan(&name, &pid, &grade); err != nil {
			b.Fatal(err)
		}
		switch want := done.programs[catchLabel.FindString(name)].pid; {
		case pid == want:
			r.named++
		case pid != 0:
			r.wrong++
		}
	}
	attached, err := d.db.Query(`SELECT doc ->> '$.culprit.attach_ms' FROM traces WHERE doc ->> '$.culprit.from_packet'`)
	if err != nil {
		b.Fatal(err)
	}
	defer attached.Close()
	for attached.Next() {
		var ms float64
		if err := attached.Scan(&ms); err != nil {
			b.Fatal(err)
		}
		r.attach = append(r.attach, ms)
	}
	r.frozen = len(r.attach)
	r.snapshots = d.count(b, "SELECT count(DISTINCT hit) FROM snapshots")
	r.stacks = d.count(b, "SELECT count(*) FROM snapshots WHERE json_array_length(doc, '$.culprit.stack') > 0")
	return r
}
