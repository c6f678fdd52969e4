package service

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"culprit/internal/event"
	"culprit/test/harness"
)

// listens lists where the daemon listens, as ss shows it.
func listens(d *harness.Daemon) (lines []string) {
	d.T.Helper()
	for line := range strings.Lines(d.Host.Must(d.T, "ss", "-H", "-l", "-t", "-u", "-x", "-n", "-p")) {
		if strings.Contains(line, fmt.Sprintf("pid=%d,", d.PID)) {
			lines = append(lines, line)
		}
	}
	return lines
}

// Nobody listens unless told to; then it is only root, or only this machine.
func TestMetricsListen(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	before := h.Firewall()
	d := h.Hunt(harness.LongWindow)
	if ls := listens(d); len(ls) > 0 {
		t.Errorf("by default it listens: %v", ls)
	}
	d.Stop()

	for _, address := range []string{"127.0.0.1:9357", "[::1]:9357"} {
		d := h.Hunt(harness.LongWindow + "metrics: {listen: \"" + address + "\"}\n")
		if ls := listens(d); len(ls) != 1 || !strings.Contains(ls[0], address) {
			t.Errorf("it listens at %v, want only %s", ls, address)
		}
		if !d.Logged("metrics.listen " + address + ": every user of this machine, also the hunted one, can read") {
			t.Errorf("nothing warns who can read %s", address)
		}
		text := h.Must(t, "curl", "-gsf", "http://"+address+"/metrics")
		if v, there := parseReadings(t, text)["culprit_hits_total{badzone}"]; !there || v != 0 {
			t.Errorf("%s says:\n%s", address, text)
		}
		if ok := h.Must(t, "curl", "-gsf", "http://"+address+"/healthz"); ok != "ok\n" {
			t.Errorf("%s says of its health %q", address, ok)
		}
		h.Started++
		config, _ := h.Configure("nflog: {group: 4243}\nfirewall: {chain: OTHER}\nmetrics: {listen: \"" + address + "\"}\n")
		held := h.Firewall()
		h.Culprit("run", "-c", config).Fails(t, 1, "metrics.listen", address, "in use by another program")
		h.Unchanged(held, "after a second daemon at the same address")
		d.Stop()
	}
	config, _ := h.Configure("metrics: {listen: \"0.0.0.0:9357\"}\n")
	h.Culprit("run", "-c", config).Fails(t, 2, "metrics.listen", "0.0.0.0:9357", "can be reached from other machines")
	h.Unchanged(before, "after all")
}

// The socket is root's. That of a daemon that was killed is replaced, and one in a
// directory of others is not made.
func TestMetricsSocket(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	config, evidence, socket := metered(h, harness.LongWindow)
	d := h.HuntWith(config, evidence)
	if ls := listens(d); len(ls) != 1 || !strings.Contains(ls[0], socket) {
		t.Errorf("it listens at %v, want only %s", ls, socket)
	}
	curl := func(uid uint32) harness.Result {
		return h.Command(harness.As(uid, exec.Command("curl", "-sS", "--unix-socket", socket, "http://localhost/metrics")))
	}
	if out := curl(0).Must(t); !strings.Contains(out, "culprit_build_info") {
		t.Errorf("root reads %q", out)
	}
	if r := curl(harness.NewUID()); r.Code == 0 || strings.Contains(r.Out, "culprit") {
		t.Errorf("another user reads it: %d %s", r.Code, r.Out)
	}
	d.Signal(syscall.SIGKILL)
	d.Wait()
	if _, err := os.Lstat(socket); err != nil {
		t.Fatalf("the socket of a daemon that was killed: %v", err)
	}
	d = h.HuntWith(config, evidence)
	curl(0).Must(t)
	d.Stop()

	if err := os.Chmod(h.Dir, 0o777); err != nil {
		t.Fatal(err)
	}
	h.Culprit("run", "-c", config).Fails(t, 1, "metrics.listen", h.Dir, "can be written to by others")
}

// Who connects and reads nothing, as often as possible, holds up nobody.
func TestMetricsSlowReaders(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	config, evidence, socket := metered(h, harness.LongWindow)
	d := h.HuntWith(config, evidence)
	for range 24 { // more than it serves at once
		c, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.(*net.UnixConn).SetReadBuffer(1); err != nil {
			t.Fatal(err)
		}
		for range 64 { // answers that nobody takes
			if err := c.SetWriteDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(c, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
				break
			}
		}
	}
	s := h.Sender(harness.NewUID())
	s.Ask("x.badzone.test")
	harness.Traced(t, s.Process)
	d.Hit("x.badzone.test")
	harness.Eventually(t, "the slow readers are cut off, and another one is served", func() error {
		status, _, err := ask(socket, "/metrics")
		if err != nil || status != 200 {
			return fmt.Errorf("status %d, %v", status, err)
		}
		return nil
	})
	d.Stop()
}

// What goes wrong with the disk is counted, as much as the losses say.
func TestMetricsDiskFull(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	disk := h.SmallDisk(8 << 20)
	dir := filepath.Join(disk, "evidence")
	config, _, socket := metered(h, harness.LongWindow+fmt.Sprintf("evidence: {dir: %s, min_free: 0B}\n", dir))
	d := h.HuntWith(config, dir)
	s := h.Sender(harness.NewUID())
	s.Ask("first.badzone.test")
	d.Hit("first.badzone.test")
	full := filepath.Join(disk, "full")
	h.Fill(full)
	n := 0
	harness.Eventually(t, "hits that cannot be written are counted", func() error {
		s.Ask(fmt.Sprintf("full%d.badzone.test", n))
		n++
		got := readings(d, socket)
		if got["culprit_catalogue_write_failures_total"] < 1 || got["culprit_catalogue_dropped_total"] < 1 {
			return fmt.Errorf("%v failures, %v dropped", got["culprit_catalogue_write_failures_total"], got["culprit_catalogue_dropped_total"])
		}
		return nil
	})
	h.Do(func() {
		if err := os.Remove(full); err != nil {
			t.Error(err)
		}
	})
	harness.Eventually(t, "the losses are as many", func() error {
		s.Ask("free.badzone.test")
		var lost uint64
		for _, l := range harness.List[event.Loss](d, "losses") {
			if l.Culprit.Code == event.LossUnrecorded {
				lost += l.Culprit.Count
			}
		}
		if got := readings(d, socket)["culprit_catalogue_dropped_total"]; got != float64(lost) {
			return fmt.Errorf("%v are counted, %d in the catalogue", got, lost)
		}
		return nil
	})
	d.Stop()
}
