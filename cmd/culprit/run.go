package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"culprit/capture"
	"culprit/evidence"
	"culprit/internal/config"
	"culprit/internal/strace"
	"culprit/rules"
	"culprit/trigger"
)

func newRun() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Hunt: install the firewall rules, capture on each hit, until stopped",
		Long: `Hunt until SIGINT or SIGTERM. Then the straces let go of their processes, the
firewall rules are removed, and the exit status is 0. A second signal ends at once.

SIGHUP reads the configuration again. Captures that run go on; one with mistakes is
refused, and the one in force stays.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := config.Load(path)
			if err != nil {
				return err
			}
			control := new(logControl)
			control.set(c)
			return hunt(cmd.Context(), c, newLogger(cmd.ErrOrStderr(), c.Log.Format, control), control)
		},
	}
	configFlag(cmd, &path, config.DefaultPath)
	return cmd
}

// memoryLimit is from where on memory is given back rather than kept for the next
// flood, in bytes. It is no bound: what is in use is bounded by the queues.
const memoryLimit = 40 << 20

// hunt runs the daemon until the context ends. What it sets up it takes down in
// reverse, also when something on the way fails.
func hunt(ctx context.Context, c *config.Config, log *slog.Logger, control *logControl) (err error) {
	if err := needRoot("culprit run"); err != nil {
		return err
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
	// A panic, or the SIGABRT of systemd's watchdog, ends us by a signal. By default it is
	// with status 2, which says that the configuration is wrong: nobody would start us again.
	// A core would hold what others wrote.
	debug.SetTraceback("crash")
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("forbid core dumps: %w", err)
	}
	for _, w := range c.Warnings() {
		log.Warn(w)
	}
	program, err := strace.Find(ctx)
	if err != nil {
		return err
	}
	if program.Stacks == "" && c.Capture.WantsStacks() {
		log.Warn("this strace was built without stack traces (-k): capture.levels with stacks go without", "strace", program.Version())
	}
	for i, l := range c.Capture.Levels {
		if l.Syscalls == "" {
			continue
		}
		if err := program.CheckSyscalls(ctx, l.Syscalls); err != nil {
			return fmt.Errorf("capture.levels[%d].syscalls: %w", i, err)
		}
	}
	firewall, err := rules.New(c, log)
	if err != nil {
		return err
	}
	// Who listens first and installs then misses no packet.
	listener, err := trigger.Listen(c, log)
	if err != nil {
		return err
	}
	defer listener.Close()
	sendTo, err := outlets(c.Events, log)
	if err != nil {
		return err
	}
	store, err := evidence.Open(c.Evidence.Dir, log, sendTo...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	store.Redact(c.Capture.Redaction())
	numbers, readers, err := newNumbers(ctx, c, store, listener)
	if err != nil {
		return err
	}

	keeper := store.Keeper(bounds(c.Evidence))
	keeper.Swept = numbers.swept
	out := newHunter(store, keeper, log, obtained(c, program), numbers)
	controller := capture.New(c, program, out, log, firewall.Programs()...)
	controller.Meter = numbers
	out.controller = controller
	controllerCtx, stopController := context.WithCancel(context.WithoutCancel(ctx))
	listenerCtx, stopListener := context.WithCancel(context.WithoutCancel(ctx))
	defer stopListener()
	defer stopController()
	g := new(errgroup.Group)
	g.Go(func() error {
		controller.Run(controllerCtx)
		return nil
	})
	g.Go(func() error {
		keeper.Run(controllerCtx)
		return nil
	})
	if readers != nil {
		g.Go(func() error {
			numbers.Serve(controllerCtx, readers, log, loops(listener, controller)...)
			return nil
		})
	}
	failed := make(chan struct{})
	g.Go(func() error {
		defer close(failed)
		return listener.Run(listenerCtx, fromTrigger{out})
	})

	force := &inForce{
		config: c, logControl: control, log: log, listener: listener, controller: controller, keeper: keeper, out: out, firewall: firewall,
	}
	err = firewall.Install()
	if err == nil {
		force.keep(ctx)
		log.Info("ready", "version", version, "config", c.Path, "rules", len(c.Rules), "nflog_group", c.NFLog.Group, "evidence", c.Evidence.Dir)
		daemon.SdNotify(false, daemon.SdNotifyReady)
		force.serve(ctx, failed)
		log.Info("stopping")
		daemon.SdNotify(false, daemon.SdNotifyStopping)
		force.unkeep()
	}
	stopListener()
	<-failed
	stopController()
	err = errors.Join(err, g.Wait())
	// Last, when the gate is gone: starting iptables must not wait for it.
	if err = errors.Join(err, force.firewall.Remove()); err == nil {
		log.Info("stopped")
	}
	return err
}
