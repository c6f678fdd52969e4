package fleet_test

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"culprit/fleet"
	"culprit/internal/testkit/natsserver"
)

// Many hosts send to three servers, each of which keeps all, while one server after the other is killed: everything arrives once
// and in order. FLEET_FOR=5m takes 200 hosts with five events a second each for so long, and prints what it takes.
func TestManyHosts(t *testing.T) {
	t.Parallel()
	hosts, lasts := 20, 2*time.Second
	if text := os.Getenv("FLEET_FOR"); text != "" {
		var err error
		if lasts, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
		hosts = 200
	}
	servers := natsserver.Cluster(t, 3, "")
	op := operator(t, servers, fleet.Plan{Replicas: 3})
	var all []*host
	for i := range hosts {
		all = append(all, newHost(t, fmt.Sprintf("web%d", i), servers))
	}
	began, used := time.Now(), cpu(t)
	ticks := time.NewTicker(200 * time.Millisecond)
	defer ticks.Stop()
	killed := make(chan struct{}, 1)
	killed <- struct{}{}
	next := 0
	var most int64
	for at := range ticks.C {
		if at.Sub(began) > lasts {
			break
		}
		for _, h := range all {
			h.hits(1)
		}
		most = max(most, waiting(all))
		select {
		case <-killed: // one server at a time is away
			s := servers[next%len(servers)]
			next++
			go func() {
				defer func() { killed <- struct{}{} }() // also if it does not come back
				time.Sleep(lasts / 8)
				s.Kill()
				time.Sleep(lasts / 16)
				s.Launch()
				s.AwaitReady()
			}()
		default:
		}
	}
	<-killed // the last one is back
	for _, h := range all {
		h.allSent()
	}
	took := time.Since(began)
	used = cpu(t) - used
	onceEach(t, op, all...)
	var stream jetstream.Stream
	eventually(t, "the stream says what it has", func() (err error) {
		stream, err = op.JS.Stream(t.Context(), op.Name.Stream())
		return err
	})
	state, n := stream.CachedInfo().State, hosts*len(all[0].sent)
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	t.Logf("%d hosts, %d events in %v (%.0f/s), %d servers killed; at most %d waited; %d messages, %d bytes per event in the stream; %.0f%% of a CPU and %d MiB of heap for all hosts together",
		hosts, n, took.Round(time.Millisecond), float64(n)/took.Seconds(), next, most, state.Msgs, state.Bytes/uint64(n), 100*used.Seconds()/took.Seconds(), memory.HeapInuse>>20)
	for _, h := range all {
		if s := h.log.String(); strings.Contains(s, "refused for good") || strings.Contains(s, "older copy") {
			t.Errorf("%s says:\n%s", h.name, s)
		}
	}
}

// waiting counts the events of all hosts that are not in the stream.
func waiting(all []*host) (n int64) {
	for _, h := range all {
		n += h.store.Counts().FleetUnsent
	}
	return n
}

// cpu is the time that this process has used of it.
func cpu(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
