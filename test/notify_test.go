package test

import (
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// systemdSocket is where a daemon tells systemd what it has to, as systemd would hear it.
func (h *host) systemdSocket() (path string, told func(want string)) {
	h.t.Helper()
	path = filepath.Join(h.dir, "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { conn.Close() })
	return path, func(want string) {
		h.t.Helper()
		if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
			h.t.Fatal(err)
		}
		buf := make([]byte, 4096)
		n, err := conn.Read(buf)
		if err != nil || string(buf[:n]) != want {
			h.t.Fatalf("systemd was told %q (%v), want %q", buf[:n], err, want)
		}
	}
}

// systemd's watchdog is told that the daemon lives, as long as its loops turn.
func TestWatchdog(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	path, told := h.systemdSocket()
	config, evidence := h.configure("")
	d := h.huntWith(config, evidence, "NOTIFY_SOCKET="+path, "WATCHDOG_USEC=300000")
	for _, want := range []string{"READY=1", "WATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1"} {
		told(want)
	}
	d.stop()
}

// A daemon that systemd's watchdog ends is started again: it does not end with the status
// of a wrong configuration.
func TestAbort(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	before := h.firewall()
	d := h.hunt("")
	d.signal(syscall.SIGABRT)
	if got, want := d.wait(), 128+int(syscall.SIGABRT); got != want {
		t.Errorf("it ended with %d, want %d", got, want)
	}
	if log := d.output.String(); !strings.Contains(log, "goroutine ") {
		t.Errorf("it does not say where it was stuck:\n%s", log)
	}
	h.culprit("rules", "remove").must(t)
	h.unchanged(before, "after the daemon and culprit rules remove")
}

// systemd is told when the daemon is ready, and when it stops.
func TestNotify(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	path, told := h.systemdSocket()
	config, evidence := h.configure("")
	d := h.huntWith(config, evidence, "NOTIFY_SOCKET="+path)
	told("READY=1")
	d.stop()
	told("STOPPING=1")
}
