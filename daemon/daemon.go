// Package daemon is the running hunt: it makes the parts in the order in which they need each
// other, starts them, and stops them in reverse.
//
//	trigger.Listener ──hit──▶ capture.Controller ──hit, capture, trace──▶ recorder ──▶ evidence.Store, log, counts
//	       ▲                                                                                │
//	rules.Firewall                                                         retention.Sweeper ┘ keeps it within its bounds
package daemon

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"time"

	"culprit/capture"
	"culprit/evidence"
	"culprit/evidence/retention"
	"culprit/internal/backlog"
	"culprit/internal/config"
	"culprit/rules"
	"culprit/trigger"
)

// Options are what a daemon does not get from its configuration.
type Options struct {
	Version, Commit string    // of the program
	Log             io.Writer // where the log goes
}

// daemon holds the parts of a running hunt.
type daemon struct {
	config     *config.Config // in force; a reload replaces it
	version    string
	log        *slog.Logger
	logging    *logging
	listener   *trigger.Listener
	store      *evidence.Store
	counts     *counts
	readers    net.Listener // of the metrics; nil: nobody reads them
	sweeper    *retention.Sweeper
	recorder   *recorder
	controller *capture.Controller
	firewall   *firewall
}

// logLonger is how long writing the last lines of the log may take.
const logLonger = time.Second

// Run hunts until the context ends. It takes down in reverse what it set up, even if something
// fails on the way. It needs root and a configuration from [config.Load].
func Run(ctx context.Context, c *config.Config, o Options) (err error) {
	// Nobody waits for who reads the log: not the controller, the trigger or the gate.
	var log *slog.Logger
	lines := backlog.New(o.Log, func(dropped int) {
		log.Warn("log lines were dropped: what reads the log did not keep up", "count", dropped)
	})
	defer lines.Close(logLonger)
	logging := newLogging(c)
	log = newLogger(lines, c.Log.Format, logging)
	if err := prepareProcess(); err != nil {
		return err
	}
	for _, w := range c.Warnings() {
		log.Warn(w)
	}
	program, err := findStrace(ctx, c, log)
	if err != nil {
		return err
	}
	ours, err := rules.New(c, log)
	if err != nil {
		return err
	}

	// From here on packets wait in the listener, so none is missed once the rules are
	// installed.
	listener, err := trigger.Listen(c, log)
	if err != nil {
		return err
	}
	defer listener.Close()
	store, err := openStore(c, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	counts := newCounts(c, o, store, listener)
	readers, err := listenForMetrics(ctx, c.Metrics)
	if err != nil {
		return err
	}
	sweeper := store.Sweeper(Bounds(c.Evidence), counts.swept)
	recorder := newRecorder(store, sweeper, counts, log, observed(c, o.Version, program))
	controller := capture.New(c, program, recorder, counts, log, ours.Programs()...)

	d := &daemon{
		config: c, version: o.Version, log: log, logging: logging, listener: listener, store: store, counts: counts, readers: readers,
		sweeper: sweeper, recorder: recorder, controller: controller, firewall: newFirewall(ours, recorder, counts),
	}
	return d.hunt(ctx)
}

// hunt starts the parts and installs the rules. When the context ends it stops the parts in
// reverse. The rules go last, after the gate, so that iptables waits for nothing. What they log
// until then becomes no hit.
func (d *daemon) hunt(ctx context.Context) error {
	captures := start(ctx, withoutError(d.controller.Run))
	sweeps := start(ctx, withoutError(d.sweeper.Run))
	scrapes := start(ctx, withoutError(d.serveMetrics))
	hits := start(ctx, func(ctx context.Context) error { return d.listener.Run(ctx, packets{d.controller, d.recorder}) })

	err := d.firewall.install(ctx)
	if err == nil {
		c := d.config
		d.log.Info("ready", "version", d.version, "config", c.Path, "rules", len(c.Rules), "nflog_group", c.NFLog.Group, "evidence", c.Evidence.Dir)
		notifyReady()
		d.serve(ctx, hits.ended)
		d.log.Info("stopping")
		notifyStopping()
	}

	d.firewall.stopKeeping()
	err = errors.Join(err, stop(hits))
	err = errors.Join(err, stop(captures, sweeps, scrapes))
	if err = errors.Join(err, d.firewall.remove()); err == nil {
		d.log.Info("stopped")
	}
	return err
}
