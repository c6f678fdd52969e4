package daemon

import (
	"context"
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
	socket   string        // empty: nobody wants to know
	watchdog time.Duration // how long it waits for a message (man 3 sd_watchdog_enabled); 0: for ever
	log      *slog.Logger
	deaf     bool  // it did not take the last message
	feeding  *part // nil: not yet
}

func newSystemd(log *slog.Logger) *systemd {
	watchdog, err := sd.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn("cannot serve systemd's watchdog", "error", err)
	}
	return &systemd{socket: os.Getenv("NOTIFY_SOCKET"), watchdog: watchdog, log: log}
}

// beatEvery is how often the watchdog is to be told that we are alive.
func (s *systemd) beatEvery() time.Duration { return s.watchdog / 3 }

// stopping tells systemd that we stop. Its watchdog watches until we have ended, and that may wait
// for a disk, a server or a program that takes events, longer than the watchdog does. So it is told until
// close that we are alive; TimeoutStopSec= says how long we may take. Nobody else may tell anything after it.
func (s *systemd) stopping(ctx context.Context) {
	s.tell(sd.SdNotifyStopping)
	if s.watchdog == 0 {
		return
	}
	s.feeding = start(ctx, func(ctx context.Context) error {
		ticker := time.NewTicker(s.beatEvery())
		defer ticker.Stop()
		for {
			s.tell(sd.SdNotifyWatchdog)
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return nil
			}
		}
	})
}

func (s *systemd) close() {
	if s.feeding != nil {
		_ = stop(s.feeding) // it never fails
	}
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
