package daemon

import (
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// While a catalogue is upgraded systemd waits longer, and hears when that is over.
func TestTellUpgrade(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	l := slog.New(slog.NewTextHandler(&log, nil))
	upgrade := start(context.Background(), withoutError(func(ctx context.Context) { tellUpgrade(ctx, &systemd{socket: path, log: l}, l) }))
	buf := make([]byte, 4096)
	n, err := conn.Read(buf)
	if got := string(buf[:n]); err != nil || got != "EXTEND_TIMEOUT_USEC=60000000\nSTATUS=upgrading the catalogue" {
		t.Errorf("systemd was told %q, %v", got, err)
	}
	if err := stop(upgrade); err != nil {
		t.Error(err)
	}
	if n, err := conn.Read(buf); err != nil || string(buf[:n]) != "STATUS=" {
		t.Errorf("in the end systemd was told %q, %v", buf[:n], err)
	}
	if !strings.Contains(log.String(), "the catalogue is of an older version") {
		t.Errorf("the log is %s", &log)
	}
}
