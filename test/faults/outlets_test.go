package faults

import (
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"culprit/test/harness"
)

// An outlet of events that takes nothing holds up nobody: not the hunt, and not its end. What
// waited gets out when somebody reads again.
func TestEventsNobodyReads(t *testing.T) {
	t.Parallel()
	const count = 300
	for name, outlet := range map[string]func(t *testing.T, h *harness.Host) (config string, arrived func() int){
		"command":  deafCommand,
		"journald": deafJournald,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := harness.NewHost(t, "")
			events, arrived := outlet(t, h)
			config, evidence := h.Configure(events + harness.LongWindow)
			d := h.HuntWith(config, evidence)
			s := h.Sender(harness.NewUID())
			for i := range count {
				s.Ask(fmt.Sprintf("x%d.badzone.test", i))
			}
			d.Hit(fmt.Sprintf("x%d.badzone.test", count-1))
			harness.Traced(t, s.Process)
			began := time.Now()
			d.Stop()
			if took := time.Since(began); took > 20*time.Second {
				t.Errorf("it took %v to end", took)
			}
			if !strings.Contains(d.Output.String(), "events wait to be sent out at the next start") {
				t.Errorf("it does not say that events wait:\n%s", d.Output)
			}
			if got := len(d.Hits("-n", "0")); got != count {
				t.Errorf("%d hits, want %d", got, count)
			}
			d = h.HuntWith(config, evidence)
			harness.Eventually(t, "what waited is sent out", func() error {
				if n := arrived(); n < count {
					return fmt.Errorf("%d events have arrived, want %d", n, count)
				}
				return nil
			})
			d.Stop()
		})
	}
}

// deafCommand takes nothing before arrived is called.
func deafCommand(t *testing.T, h *harness.Host) (config string, arrived func() int) {
	t.Helper()
	out, listens := filepath.Join(h.Dir, "out"), filepath.Join(h.Dir, "listens")
	script := h.Write("deaf", fmt.Sprintf("#!/bin/sh\nwhile ! [ -e %s ]; do sleep 0.1; done\nexec cat >>%s\n", listens, out))
	return "events: {command: [" + script + "]}\n", func() int {
		if err := os.WriteFile(listens, nil, 0o600); err != nil {
			t.Error(err)
		}
		text, _ := os.ReadFile(out)
		return strings.Count(string(text), `"action":"hit"`)
	}
}

// deafJournald is a journald that stands still before arrived is called: its socket is full.
func deafJournald(t *testing.T, h *harness.Host) (config string, arrived func() int) {
	t.Helper()
	var socket *net.UnixConn
	var err error
	h.Do(func() {
		if err = unix.Mount("tmpfs", "/run", "tmpfs", 0, ""); err != nil {
			return
		}
		if err = os.MkdirAll("/run/systemd/journal", 0o755); err != nil {
			return
		}
		socket, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: "/run/systemd/journal/socket"})
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close() })
	n, buf := 0, make([]byte, 1<<20)
	return "events: {journald: true}\n", func() int {
		for {
			if err := socket.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
				t.Fatal(err)
			}
			size, err := socket.Read(buf)
			if err != nil {
				return n
			}
			n += strings.Count(string(buf[:size]), `"action":"hit"`)
		}
	}
}

// A culprit watch whose output nobody reads holds up nobody, and keeps nothing in the catalogue
// from being written to its place.
func TestWatchNobodyReads(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	d := h.Hunt(harness.LongWindow)
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	if _, err := unix.FcntlInt(write.Fd(), unix.F_SETPIPE_SZ, os.Getpagesize()); err != nil {
		t.Fatal(err)
	}
	watch := exec.Command(harness.Programs.Culprit, "watch", "-c", d.Config)
	watch.Stdout = write
	if err := h.Start(watch); err != nil {
		t.Fatal(err)
	}
	defer func() { watch.Process.Signal(syscall.SIGKILL); watch.Wait() }()
	write.Close()

	s := h.Sender(harness.NewUID())
	asked := 0
	ask := func() {
		for range 50 {
			s.Ask(fmt.Sprintf("x%d.badzone.test", asked))
			asked++
		}
		d.Hit(fmt.Sprintf("x%d.badzone.test", asked-1))
	}
	harness.Eventually(t, "watch waits for its reader", func() error {
		ask()
		if full, err := unix.IoctlGetInt(int(read.Fd()), unix.TIOCINQ); err != nil || full < os.Getpagesize()-300 {
			return fmt.Errorf("its pipe has %d bytes, %v", full, err)
		}
		return nil
	})
	ask()
	if got := len(d.Hits("-n", "0")); got != asked {
		t.Errorf("%d hits, want %d", got, asked)
	}
	harness.Eventually(t, "all of the catalogue is in its place", func() error { return checkpoint(d) })
	d.Stop()
}

// checkpoint writes the catalogue's log (WAL) to its place, which fails while somebody reads an
// older state.
func checkpoint(d *harness.Daemon) error {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(d.Evidence, "catalogue.db"))
	if err != nil {
		return err
	}
	defer db.Close()
	var busy, pages, moved int
	if err := db.QueryRow("PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &pages, &moved); err != nil {
		return err
	}
	if busy != 0 {
		return errors.New("somebody reads an older state")
	}
	return nil
}
