package daemon

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// serve reloads on each SIGHUP, loads lists that have changed, and returns when the context ends or packets can no longer be
// read. On a terminal SIGHUP means that the terminal was closed, so serve returns too.
func (d *daemon) serve(ctx context.Context, unread <-chan struct{}) {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	var beats <-chan time.Time // for systemd's watchdog (man 3 sd_watchdog_enabled)
	every := d.systemd.beatEvery()
	if every > 0 {
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		beats = ticker.C
	}
	// Lists can be long: systemd is told meanwhile that we are alive.
	meanwhile := func(do func(context.Context)) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		done := make(chan struct{})
		go func() {
			defer close(done)
			do(ctx)
		}()
		for {
			select {
			case <-done:
				return
			case <-unread:
				cancel() // nobody takes new rules any more
				<-done
				return
			case <-beats:
				d.beat(ctx, every)
			}
		}
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-unread:
			return
		case <-beats:
			d.beat(ctx, every)
		case <-hangups:
			if onTerminal() {
				return
			}
			meanwhile(d.hangup)
		case <-d.watcher.Changed():
			meanwhile(d.listsChanged)
		case n := <-d.sets.news():
			meanwhile(func(ctx context.Context) { d.heard(ctx, n) })
		case <-d.sets.ends():
			meanwhile(func(ctx context.Context) { d.settle(ctx, false) })
		}
	}
}

// beat tells systemd's watchdog that we are alive, if every loop turns in time.
func (d *daemon) beat(ctx context.Context, patience time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for _, l := range d.loops() {
		if l.Turns(ctx) != nil {
			return
		}
	}
	d.systemd.tell(sd.SdNotifyWatchdog)
}

// hangup reloads the configuration and logs the result.
func (d *daemon) hangup(ctx context.Context) {
	d.systemd.tell(reloading())
	err := d.reload(ctx)
	d.counts.Reloaded(err == nil)
	if err != nil {
		d.log.Error("the configuration was not reloaded: the old one stays in force", "error", err)
	} else {
		d.log.Info("reloaded", "config", d.config.Path, "rules", len(d.config.Rules))
	}
	d.systemd.tell(sd.SdNotifyReady)
}

// onTerminal reports whether standard error is a terminal, even one that has gone.
func onTerminal() bool {
	var st unix.Stat_t
	const ttys, consoles = 4, 5 // besides pseudo terminals: Documentation/admin-guide/devices.txt
	if unix.Fstat(2, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFCHR {
		return false
	}
	major := unix.Major(st.Rdev)
	return major == ttys || major == consoles || major >= 136 && major <= 143
}
