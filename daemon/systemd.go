package daemon

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// systemd is who started us, if it wants to be told how we are (man 3 sd_notify). It belongs to
// one goroutine.
type systemd struct {
	socket string // empty: nobody wants to know
	log    *slog.Logger
	deaf   bool // it did not take the last message
}

func newSystemd(log *slog.Logger) *systemd {
	return &systemd{socket: os.Getenv("NOTIFY_SOCKET"), log: log}
}

// listensWithin is how long systemd may take to take a message: its socket is full while it
// hangs, and then nobody must wait for it.
const listensWithin = time.Second

// tell tells systemd of a state.
func (s *systemd) tell(state string) {
	if s.socket == "" {
		return
	}
	err := s.send(state)
	if err != nil && !s.deaf {
		s.log.Warn("systemd was not told how culprit is", "state", state, "error", err)
	}
	s.deaf = err != nil
}

func (s *systemd) send(state string) error {
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Net: "unixgram", Name: s.socket})
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetWriteDeadline(time.Now().Add(listensWithin)); err != nil {
		return err
	}
	_, err = conn.Write([]byte(state))
	return err
}

// reloading is the message that starts a reload (man 3 sd_notify).
func reloading() string {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)
	return fmt.Sprintf("%s\nMONOTONIC_USEC=%d", sd.SdNotifyReloading, now.Nano()/1000)
}
