package service

import (
	"net"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"culprit/test/harness"
)

// systemdSocket is where a daemon tells systemd what it has to, as systemd would hear it.
func systemdSocket(h *harness.Host) (path string, told func(want ...string) string) {
	h.T.Helper()
	path = filepath.Join(h.Dir, "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		h.T.Fatal(err)
	}
	h.T.Cleanup(func() { conn.Close() })
	return path, func(want ...string) string {
		h.T.Helper()
		if err := conn.SetReadDeadline(time.Now().Add(harness.Patience)); err != nil {
			h.T.Fatal(err)
		}
		buf := make([]byte, 4096)
		n, err := conn.Read(buf)
		if err != nil || !slices.Contains(want, string(buf[:n])) {
			h.T.Fatalf("systemd was told %q (%v), want %q", buf[:n], err, want)
		}
		return string(buf[:n])
	}
}

// systemd's watchdog is told that the daemon lives, as long as its loops turn.
func TestWatchdog(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	path, told := systemdSocket(h)
	config, evidence := h.Configure("")
	d := h.HuntWith(config, evidence, "NOTIFY_SOCKET="+path, "WATCHDOG_USEC=300000")
	for _, want := range []string{"READY=1", "WATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1"} {
		told(want)
	}
	d.Stop()
}

// The watchdog is told so until the daemon has ended, which may wait for others.
func TestWatchdogWhileStopping(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	path, told := systemdSocket(h)
	config, evidence := h.Configure("events: {command: [/bin/sleep, inf]}\n") // it reads nothing
	d := h.HuntWith(config, evidence, "NOTIFY_SOCKET="+path, "WATCHDOG_USEC=300000")
	told("READY=1")
	h.Sender(harness.NewUID()).Ask("x.badzone.test")
	d.Hit("x.badzone.test")
	d.Signal(syscall.SIGTERM)
	for last := "WATCHDOG=1"; last == "WATCHDOG=1"; {
		last = told("WATCHDOG=1", "STOPPING=1")
	}
	for range 2 {
		told("WATCHDOG=1")
	}
	if code := d.Wait(); code != 0 {
		t.Errorf("it ended with %d:\n%s", code, d.Output)
	}
}

// A daemon that systemd's watchdog ends is started again: it does not end with the status
// of a wrong configuration.
func TestAbort(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	before := h.Firewall()
	d := h.Hunt("")
	d.Signal(syscall.SIGABRT)
	if got, want := d.Wait(), 128+int(syscall.SIGABRT); got != want {
		t.Errorf("it ended with %d, want %d", got, want)
	}
	if log := d.Output.String(); !strings.Contains(log, "goroutine ") {
		t.Errorf("it does not say where it was stuck:\n%s", log)
	}
	h.Culprit("rules", "remove").Must(t)
	h.Unchanged(before, "after the daemon and culprit rules remove")
}

// systemd is told when the daemon is ready, and when it stops.
func TestNotify(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	path, told := systemdSocket(h)
	config, evidence := h.Configure("")
	d := h.HuntWith(config, evidence, "NOTIFY_SOCKET="+path)
	told("READY=1")
	d.Stop()
	told("STOPPING=1")
}

// A systemd that hangs, with a full socket, holds up nobody: not the hunt, and not its end.
func TestNotifyNobodyReads(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	path, _ := systemdSocket(h)
	full, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	if err := full.SetWriteDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = full.Write([]byte("STATUS=filling"))
	}
	config, evidence := h.Configure("")
	d := h.HuntWith(config, evidence, "NOTIFY_SOCKET="+path, "WATCHDOG_USEC=300000")
	d.AwaitLog("systemd was not told how culprit is")
	h.Sender(harness.NewUID()).Ask("x.badzone.test")
	d.Hit("x.badzone.test")
	began := time.Now()
	d.Stop()
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("it took %v to end", took)
	}
	if n := strings.Count(d.Output.String(), "systemd was not told"); n != 1 {
		t.Errorf("it says %d times that systemd does not listen", n)
	}
}
