package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"

	"culprit/capture"
	"culprit/evidence"
	"culprit/internal/config"
	"culprit/internal/event"
	"culprit/rules"
	"culprit/trigger"
)

// inForce is the configuration of a running daemon, and what has to know when it is
// replaced.
type inForce struct {
	config     *config.Config
	logControl *logControl
	log        *slog.Logger
	listener   *trigger.Listener
	controller *capture.Controller
	keeper     *evidence.Keeper
	out        *hunter

	firewall *rules.Firewall
	unkeep   func() // ends the keeping of the firewall, and waits for it
}

// serve reloads on each SIGHUP until the context ends or the reading has failed. On a
// terminal SIGHUP says that it was closed, and is the end, too.
func (f *inForce) serve(ctx context.Context, failed <-chan struct{}) {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	var beats <-chan time.Time // for systemd's watchdog (man 3 sd_watchdog_enabled)
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		f.log.Warn("systemd's watchdog is not served", "error", err)
	}
	if interval > 0 {
		ticker := time.NewTicker(interval / 3)
		defer ticker.Stop()
		beats = ticker.C
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-failed:
			return
		case <-beats:
			ctx, cancel := context.WithTimeout(ctx, interval/3)
			if errors.Join(f.listener.Turns(ctx), f.controller.Turns(ctx)) == nil {
				daemon.SdNotify(false, daemon.SdNotifyWatchdog)
			}
			cancel()
		case <-hangups:
			if onTerminal() {
				return
			}
			daemon.SdNotify(false, reloading())
			err := f.reload(ctx)
			f.out.numbers.Reloaded(err == nil)
			if err != nil {
				f.log.Error("the configuration was not reloaded, the one in force stays", "error", err)
			} else {
				f.log.Info("reloaded", "config", f.config.Path, "rules", len(f.config.Rules))
			}
			daemon.SdNotify(false, daemon.SdNotifyReady)
		}
	}
}

// onTerminal reports whether we talk to a terminal, even to one that is gone.
func onTerminal() bool {
	var st unix.Stat_t
	const ttys, consoles = 4, 5 // and pseudo terminals: Documentation/admin-guide/devices.txt
	if unix.Fstat(2, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFCHR {
		return false
	}
	major := unix.Major(st.Rdev)
	return major == ttys || major == consoles || major >= 136 && major <= 143
}

// reloading is what systemd wants to hear at the beginning (man 3 sd_notify).
func reloading() string {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)
	return fmt.Sprintf("%s\nMONOTONIC_USEC=%d", daemon.SdNotifyReloading, now.Nano()/1000)
}

// keep has the rules kept in the firewall, until unkeep is called.
func (f *inForce) keep(ctx context.Context) {
	ctx, stop := context.WithCancel(ctx)
	kept := make(chan struct{})
	go func() {
		defer close(kept)
		f.firewall.Keep(ctx, func(gap rules.Gap) {
			f.out.Lost(event.NewLoss(fmt.Sprintf("packets of up to %s without our firewall rules: others changed the firewall", gap.Until.Sub(gap.Since).Round(time.Millisecond)), 1))
			f.out.numbers.Repaired(gap.Until.Sub(gap.Since))
		}, f.out.numbers.RepairFailed)
	}()
	f.unkeep = func() {
		stop()
		<-kept
	}
}

// reload reads the configuration again and puts it into force. If that is not
// possible, the one in force stays, and the error says why.
func (f *inForce) reload(ctx context.Context) error {
	c, err := config.Load(f.config.Path)
	if err != nil {
		return err
	}
	if keys := c.NeedsRestart(f.config); len(keys) > 0 {
		return fmt.Errorf("%s: a running daemon cannot change %s: restart it", c.Path, strings.Join(keys, ", "))
	}
	firewall, err := rules.New(c, f.log)
	if err != nil {
		return err
	}
	// Packets of new rules come as soon as these are installed, those of old ones
	// until they are removed.
	if err := f.listener.SetRules(ctx, slices.Concat(f.config.Rules, c.Rules)); err != nil {
		return err
	}
	f.unkeep()
	defer f.keep(ctx)
	if err := firewall.Install(); err != nil {
		return errors.Join(err, f.firewall.Install(), f.listener.SetRules(ctx, f.config.Rules))
	}
	f.firewall = firewall
	for _, w := range c.Warnings() {
		f.log.Warn(w)
	}
	f.controller.Reload(c)
	f.keeper.SetBounds(bounds(c.Evidence))
	f.logControl.set(c)
	f.out.Redact(c.Capture.Redaction())
	f.out.numbers.inForce(c)
	f.config = c
	return f.listener.SetRules(ctx, c.Rules)
}
