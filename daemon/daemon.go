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

	sd "github.com/coreos/go-systemd/v22/daemon"

	"culprit/capture"
	"culprit/evidence"
	"culprit/evidence/retention"
	"culprit/internal/backlog"
	"culprit/internal/config"
	"culprit/lists"
	"culprit/rules"
	"culprit/sensor"
	"culprit/trigger"
)

// Options are what a daemon does not get from its configuration.
type Options struct {
	Version, Commit string    // of the program
	Log             io.Writer // where the log goes
}

// daemon holds the parts of a running hunt.
type daemon struct {
	local      *config.Config // as it was read; a reload replaces it
	config     *config.Config // in force: local, with the rules of the fleet
	sets       *fleetSets     // nil: rules come from the configuration alone
	version    string
	log        *slog.Logger
	logging    *logging
	systemd    *systemd
	sensor     *sensor.Sensor
	listener   *trigger.Listener
	store      *evidence.Store
	counts     *counts
	readers    net.Listener // of the metrics; nil: nobody reads them
	sweeper    *retention.Sweeper
	recorder   *recorder
	controller *capture.Controller
	firewall   *firewall
	lists      map[string]*lists.List // in force, by the names of their rules
	filter     *listFilter            // in the kernel
	member     *member                // of a fleet
	watcher    *lists.Watcher
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
	told := newSystemd(log)
	defer told.close()
	if err := prepareProcess(); err != nil {
		return err
	}
	if err := lists.Check(c); err != nil {
		return err
	}
	for _, w := range warnings(c) {
		log.Warn(w)
	}
	program, err := findStrace(ctx, c, log)
	if err != nil {
		return err
	}
	senses, err := openSensor(ctx, c, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, senses.Close()) }()
	memory, err := openLookback(c, log)
	if err != nil {
		return err
	}
	if memory != nil {
		defer func() { err = errors.Join(err, memory.Close()) }()
	}
	ours, err := rules.New(c, rules.Sensing{Pin: senses.Pin(), Mark: senses.Mark()}, log)
	if err != nil {
		return err
	}

	// From here on packets wait in the listener, so none is missed once the rules are
	// installed.
	listener, err := trigger.Listen(c, senses.Sends(), log)
	if err != nil {
		return err
	}
	defer listener.Close()
	if senses.SeesOthers() {
		listener.ReadOthers(senses.OtherPackets(), c.OtherNamespaces())
	}
	member, err := joinFleet(c.Fleet, log)
	if err != nil {
		return err
	}
	defer member.close()
	store, err := openStore(c, o.Version, member, told, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	loaded, kept, err := loadLists(ctx, c, nil, log)
	if ctx.Err() != nil {
		return nil // stopped before it began
	}
	if err != nil {
		return err
	}
	filter := newListFilter(listener, senses, log)
	defer filter.close()
	counts := newCounts(c, o, store, listener, senses, memory, filter, member)
	member.reports(c, o.Version, store)
	readers, err := listenForMetrics(ctx, c.Metrics)
	if err != nil {
		return err
	}
	sweeper := store.Sweeper(Bounds(c.Evidence), counts.swept)
	recorder := newRecorder(store, sweeper, counts, log, observed(c, o.Version, program))
	if memory != nil {
		recorder.backs = newLookbacks(memory, recorder, log)
	}
	recorder.configured(c)
	controller := capture.New(c, program, recorder, stops{senses}, counts, log, append(ours.Programs(), "/proc/self/exe")...)

	d := &daemon{
		local: c, config: c, version: o.Version, sensor: senses, log: log, logging: logging, systemd: told, listener: listener, store: store, counts: counts, readers: readers,
		sweeper: sweeper, recorder: recorder, controller: controller, firewall: newFirewall(ours, recorder, counts), filter: filter, member: member,
	}
	if d.watcher, err = lists.NewWatcher(); err != nil {
		return err
	}
	d.useLists(loaded, kept)
	if err := filter.use(c.Rules, c.Rules, loaded); err != nil {
		return err
	}
	if d.sets, err = openSets(c, member.connection(), d.setsChanged, log); err != nil {
		return err
	}
	if err := d.watch(); err != nil {
		return err
	}
	return d.hunt(ctx)
}

// hunt starts the parts and installs the rules. When the context ends it stops the parts in
// reverse. The rules go last, after the gate, so that iptables waits for nothing. What they log
// until then becomes no hit.
func (d *daemon) hunt(ctx context.Context) error {
	rules, err := d.triggerRules(d.config, d.lists)
	if err != nil {
		return err
	}
	senses := start(ctx, withoutError(d.keepSensor))
	captures := start(ctx, withoutError(d.controller.Run))
	sweeps := start(ctx, withoutError(d.sweeper.Run))
	scrapes := start(ctx, withoutError(d.serveMetrics))
	backs := start(ctx, d.recorder.backs.run)
	hits := start(ctx, func(ctx context.Context) error { return d.listener.Run(ctx, rules, packets{d.controller, d.recorder}) })
	watches := start(ctx, d.watcher.Run)
	intake := start(ctx, d.sets.run)
	reports := start(ctx, withoutError(d.member.run))
	evidenceDir, rule := d.config.Evidence.Dir, d.config.Fleet.Bundles
	gives := start(ctx, withoutError(func(ctx context.Context) { d.member.give(ctx, evidenceDir, rule) }))

	d.awaitSensor(ctx)
	err = d.firewall.install(ctx)
	if err == nil {
		d.removeOldPins()
		d.settle(ctx, true)
		c := d.config
		d.log.Info("ready", "version", d.version, "config", c.Path, "rules", len(c.Rules), "nflog_group", c.NFLog.Group, "evidence", c.Evidence.Dir)
		d.systemd.tell(sd.SdNotifyReady)
		d.serve(ctx, hits.ended)
		d.log.Info("stopping")
		d.systemd.stopping(ctx)
	}

	d.firewall.stopKeeping()
	err = errors.Join(err, stop(hits))
	err = errors.Join(err, stop(captures, sweeps, scrapes, watches, intake, reports, gives))
	// Whom the kernel stopped goes on, at the latest now. That waits for the kernel, as long as iptables takes.
	senses.cancel()
	removed := d.firewall.remove()
	if err = errors.Join(err, stop(senses, backs), removed); err == nil {
		d.log.Info("stopped")
	}
	return err
}
