package bench

import (
	"context"
	"fmt"
	"os/exec"
	"testing"
	"time"

	"github.com/florianl/go-nflog/v2"

	"culprit/internal/config"
	"culprit/internal/event"
	"culprit/internal/testkit"
	"culprit/internal/words"
	"culprit/trigger"
)

// arrivals notes when hits come out of the trigger.
type arrivals struct {
	hits chan arrival
	lost map[string]uint64
}

type arrival struct {
	name        string    // what the query asks for
	read, known time.Time // when the packet was read, and when its origin was known
	grade       event.Grade
}

func (a *arrivals) Hit(h *event.Hit) {
	var name string
	if h.DNS != nil {
		name = h.DNS.Question.Name
	}
	a.hits <- arrival{name, h.Timestamp, time.Now(), h.Culprit.Origin.Grade}
}
func (a *arrivals) Repeated(string, int)          {}
func (a *arrivals) LetGo(uint64)                  {}
func (a *arrivals) Looked(string, trigger.Looked) {}
func (a *arrivals) Lost(l event.Loss)             { a.lost[words.Loss(l.Culprit)] += uint64(l.Culprit.Count) }

// listen runs the trigger in the namespace until stop is called, which then says
// what was lost.
func listen(b *testing.B, n *testkit.Net, c *config.Config) (hits <-chan arrival, stop func() map[string]uint64) {
	b.Helper()
	var l *trigger.Listener
	var err error
	n.Do(func() { l, err = trigger.Listen(c, nil, quiet) })
	if err != nil {
		b.Fatal(err)
	}
	out := &arrivals{hits: make(chan arrival, 1<<17), lost: map[string]uint64{}}
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error)
	rules, err := trigger.Rules(c.Rules, nil)
	if err != nil {
		b.Fatal(err)
	}
	go func() { ended <- l.Run(ctx, rules, out) }()
	return out.hits, func() map[string]uint64 {
		cancel()
		if err := <-ended; err != nil {
			b.Error(err)
		}
		l.Close()
		return out.lost
	}
}

// BenchmarkLatency sends single packets and measures how long after the send each
// was read by us (read) and was a hit whose origin had been looked for (hit).
//
// The sender holds the socket still, or has closed it, or there are 400 more
// processes on the machine.
func BenchmarkLatency(b *testing.B) {
	for _, how := range []struct {
		name, sockets string
		processes     int
		grade         event.Grade
	}{
		{"open", newSockets, 0, event.GradeSocket},
		{"closed", shortSockets, 0, event.GradeCandidates},
		{"open-400-processes", newSockets, 400, event.GradeSocket},
	} {
		b.Run(how.name, func(b *testing.B) {
			crowd(b, how.processes)
			c, n := parse(b, badzone), newNet(b)
			hits, stop := listen(b, n, c)
			defer stop()
			install(b, n, c)
			o := newOffender(b, n, offenderUID)
			var read, known []time.Duration
			as := 0
			for b.Loop() {
				for range 500 {
					o.send(b, 1, 0, how.sockets)
					var a arrival
					select {
					case a = <-hits:
					case <-time.After(5 * time.Second):
						b.Fatal("a packet was sent, no hit came")
					}
					sent, err := stampOf(a.name)
					if err != nil {
						b.Fatal(err)
					}
					read, known = append(read, a.read.Sub(sent)), append(known, a.known.Sub(sent))
					if a.grade == how.grade {
						as++
					}
					time.Sleep(time.Millisecond)
				}
			}
			reportMS(b, "read-", read)
			reportMS(b, "hit-", known)
			b.ReportMetric(100*float64(as)/float64(len(known)), "%-"+string(how.grade))
			noTimePerRun(b)
		})
	}
}

// crowd starts processes that do nothing, of a user of their own.
func crowd(b *testing.B, count int) {
	b.Helper()
	if count == 0 {
		return
	}
	c := sleepers(b, offenderUID+1, count)
	b.Cleanup(func() { kill(c) })
}

// BenchmarkBatching compares us with a reader that leaves NFLOG as the kernel has
// it: packets wait until there are 100 of them or a second has passed.
func BenchmarkBatching(b *testing.B) {
	c, n := parse(b, badzone), newNet(b)
	hits, stop := listen(b, n, c)
	defer stop()
	install(b, n, c)

	plain := newNet(b)
	plain.Must(b, "iptables", "-t", "raw", "-A", "OUTPUT", "-p", "udp", "--dport", "53",
		"-m", "string", "--algo", "bm", "--icase", "--string", "BADZONE", "-j", "NFLOG", "--nflog-group", "5353")
	seen := make(chan time.Time, 1)
	var nf *nflog.Nflog
	var err error
	plain.Do(func() {
		nf, err = nflog.Open(&nflog.Config{Group: 5353, Copymode: nflog.CopyPacket, Bufsize: 2048})
	})
	if err != nil {
		b.Fatal(err)
	}
	defer nf.Close()
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	err = nf.RegisterWithErrorFunc(ctx,
		func(nflog.Attribute) int { seen <- time.Now(); return 0 },
		func(error) int { return 1 })
	if err != nil {
		b.Fatal(err)
	}

	ours, theirs := newOffender(b, n, offenderUID), newOffender(b, plain, offenderUID)
	var us, them []time.Duration
	for b.Loop() {
		for range 4 {
			begin := time.Now()
			ours.send(b, 1, 0, oneSocket)
			us = append(us, (<-hits).read.Sub(begin))
			begin = time.Now()
			theirs.send(b, 1, 0, oneSocket)
			them = append(them, (<-seen).Sub(begin))
		}
	}
	b.ReportMetric(ms(quantile(us, 0.5)), "culprit-ms")
	b.ReportMetric(ms(quantile(them, 0.5)), "batched-ms")
	b.ReportMetric(float64(quantile(them, 0.5))/float64(quantile(us, 0.5)), "ratio")
	noTimePerRun(b)
}

// sleepers starts processes of a UID that do nothing for a minute at most.
func sleepers(b *testing.B, uid, count int) []*exec.Cmd {
	b.Helper()
	var all []*exec.Cmd
	for range count {
		cmd := asUser(uid, "sleep", "60")
		if err := cmd.Start(); err != nil {
			kill(all)
			b.Fatal(fmt.Errorf("start a sleeper: %w", err))
		}
		all = append(all, cmd)
	}
	return all
}

func kill(all []*exec.Cmd) {
	for _, cmd := range all {
		cmd.Process.Kill()
	}
	for _, cmd := range all {
		cmd.Wait()
	}
}
