package bench

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"culprit/internal/testkit/natsserver"
)

// BenchmarkIdleFleet measures a daemon that waits for hits, without a fleet and connected to one, turn by turn: CPU, wake-ups, memory of its
// own, descriptors. The ratios are of the medians.
func BenchmarkIdleFleet(b *testing.B) {
	const watch, samples = 5 * time.Second, 5
	server := newNet(b)
	program, err := natsserver.Program()
	if err != nil {
		b.Fatal(err)
	}
	run := func(cmd *exec.Cmd) {
		b.Helper()
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := server.Start(cmd); err != nil {
			b.Fatal(err)
		}
	}
	nats := exec.Command(program, "-a", "127.0.0.1", "-p", "4222", "-js", "-sd", b.TempDir())
	run(nats)
	b.Cleanup(func() { nats.Process.Kill(); nats.Wait() })
	await(b, "a server of the fleet", time.Second, func() bool {
		setup := exec.Command(binary(b), "fleet", "init", "--servers", "nats://127.0.0.1:4222", "--host", "web1")
		run(setup)
		return setup.Wait() == nil
	})
	daemons := map[string]*daemon{
		"without": start(b, newNet(b), badzone),
		"with":    start(b, server, badzone+"fleet: {servers: [\"nats://127.0.0.1:4222\"], host: web1}\n"),
	}
	time.Sleep(2 * time.Second) // what starting has left to do
	for b.Loop() {
		all := map[string]map[string][]float64{}
		for range samples {
			for _, which := range []string{"without", "with"} {
				d := daemons[which]
				if all[which] == nil {
					all[which] = map[string][]float64{}
				}
				cpu, wakeups := d.cpu(b), d.wakeups(b)
				time.Sleep(watch)
				for name, value := range map[string]float64{
					"ms-cpu/s":    float64((d.cpu(b) - cpu).Microseconds()) / 1000 / watch.Seconds(),
					"wakeups/s":   float64(d.wakeups(b)-wakeups) / watch.Seconds(),
					"MB-own":      d.memory(b, "RssAnon"),
					"descriptors": d.descriptors(b),
				} {
					all[which][name] = append(all[which][name], value)
				}
			}
		}
		for name, values := range all["without"] {
			without, with := quantile(values, 0.5), quantile(all["with"][name], 0.5)
			b.ReportMetric(without, name+"-without")
			b.ReportMetric(with, name+"-with")
			if without > 0 {
				b.ReportMetric(with/without, name+"-ratio")
			}
		}
	}
	noTimePerRun(b)
}

// descriptors counts those that the daemon has open.
func (d *daemon) descriptors(b *testing.B) float64 {
	b.Helper()
	all, err := os.ReadDir(filepath.Join("/proc", fmt.Sprint(d.pid), "fd"))
	if err != nil {
		b.Fatal(err)
	}
	return float64(len(all))
}
