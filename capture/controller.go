package capture

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"culprit/capture/finder"
	"culprit/capture/snapshot"
	"culprit/capture/tracer"
	"culprit/internal/config"
	"culprit/internal/container"
	"culprit/internal/event"
	"culprit/internal/proc"
	"culprit/internal/strace"
	"culprit/internal/words"
)

// Controller owns all captures. Make one with [New], give it hits, and let
// [Controller.Run] run.
type Controller struct {
	cfg        config.Capture
	guard      *atomic.Pointer[guard] // Run replaces it; others only read it
	strace     strace.Program
	recorder   Recorder
	meter      Meter
	log        *slog.Logger
	fs         proc.FS
	users      *proc.Users
	containers *container.Containers
	finder     *finder.Finder
	spawner    tracer.Spawner
	snapshot   *snapshot.Taker
	gate       keeper
	stops      Stops

	inbox chan message
	done  chan struct{} // closed when Run reads inbox no more

	// The rest belongs to the goroutine of Run.
	campaigns campaigns
	lookups   lookups
	running   int // straces
	stopping  bool
	tracers   sync.WaitGroup
}

// runDir is where files go that a reboot may remove.
const runDir = "/run/culprit"

// New makes a controller for a configuration. It starts nothing. The meter and stops may be nil.
// programs are the paths of those that we start beside strace, see [gate.Exempt].
func New(cfg *config.Config, program strace.Program, recorder Recorder, stops Stops, meter Meter, log *slog.Logger, programs ...string) *Controller {
	if meter == nil {
		meter = noMeter{}
	}
	if stops == nil {
		stops = noStops{}
	}
	c := &Controller{
		cfg: cfg.Capture, guard: new(atomic.Pointer[guard]), strace: program, recorder: recorder, meter: meter, log: log,
		fs: proc.Default, users: new(proc.Users), containers: container.New(proc.Default), spawner: tracer.NewSpawner(),
		inbox: make(chan message, 1024), done: make(chan struct{}),
		campaigns: campaigns{}, stops: stops,
	}
	stack := snapshot.FindStack()
	if stack != "" {
		programs = append(programs, stack)
	}
	c.snapshot = snapshot.New(snapshot.Tools{FS: c.fs, Users: c.users, Containers: c.containers, Stack: stack, Run: runDir, Starter: c.spawner, Store: recorder})
	c.guard.Store(newGuard(c.fs, cfg.Guard))
	c.finder = finder.New(c.fs, c.guardInForce, c.within, log, finderOutput{c.send})
	c.gate = newKeeper(cfg.Capture, stops.Starts(), c.started, append(programs, program.Path), log)
	return c
}

func (c *Controller) guardInForce() finder.Guard { return c.guard.Load() }

// message is what others tell the controller: a hit, a request, or news. handle is called
// on the goroutine of [Controller.Run].
type message interface{ handle(*Controller) }

// send passes a message to Run, or drops it once Run is over. It may wait, so Run itself
// must not call it.
func (c *Controller) send(m message) {
	select {
	case c.inbox <- m:
	case <-c.done:
	}
}

// Run works until the context ends. Then it makes all straces detach, and waits for them.
func (c *Controller) Run(ctx context.Context) {
	// The spawner's thread outlives the context: straces detach in good order only while
	// it lives. Tracers end when they are told to.
	spawnerCtx, stopSpawner := context.WithCancel(context.WithoutCancel(ctx))
	var helpers sync.WaitGroup
	helpers.Go(func() { c.finder.Run(ctx) })
	helpers.Go(func() { c.spawner.Run(spawnerCtx) })
	helpers.Go(func() { c.snapshot.Run(spawnerCtx) })
	helpers.Go(func() { c.gate.Run(ctx, c.gateOutput()) })
	defer func() {
		close(c.done)
		c.tracers.Wait()
		stopSpawner()
		helpers.Wait()
	}()

	wakeup := time.NewTimer(0)
	defer wakeup.Stop()
	stop := ctx.Done()
	for {
		select {
		case m := <-c.inbox:
			m.handle(c)
		case <-wakeup.C:
		case <-stop:
			stop, c.stopping = nil, true
			for _, cam := range c.campaigns {
				cam.close(event.EndedStopped, time.Now())
			}
		}
		if next := c.settle(time.Now()); !next.IsZero() {
			wakeup.Reset(time.Until(next))
		} else {
			wakeup.Stop()
		}
		if c.stopping && c.running == 0 && len(c.inbox) == 0 {
			return
		}
	}
}

// settle updates all campaigns, and tells others what has changed. It returns when to do
// so again even if nothing happens, the zero time if never.
func (c *Controller) settle(now time.Time) (next time.Time) {
	changed := false
	for owner, cam := range c.campaigns {
		before := cam.doc.Culprit.State
		cam.update(now)
		ended := cam.hasEnded()
		changed = changed || ended || cam.wantsGate() != cam.gated
		if ended {
			cam.programs.leave()
		}
		c.record(cam, before)
		if ended {
			c.log.Info("capture ended", cam.logAttrs(), slog.String("because", words.CaptureEnded(cam.doc.Culprit.EndedBecause)))
			delete(c.campaigns, owner)
			continue
		}
		if cam.rescan(now, func() bool { return c.campaigns.hasRoom(cam, c.running, c.cfg.Concurrent) }) {
			changed = true
		}
		if at := cam.next(now); at.After(now) && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	if changed {
		c.aim()
	}
	c.meter.Running(len(c.campaigns), c.running)
	return next
}

// record tells the recorder what has changed: of a capture only the last change if more
// messages are waiting.
func (c *Controller) record(cam *campaign, before string) {
	for _, p := range cam.programs.changed {
		c.recorder.Program(p)
	}
	cam.programs.changed = nil
	if cam.hasEnded() || cam.doc.Culprit.State != before || cam.dirty && len(c.inbox) == 0 {
		c.recorder.Capture(cam.snapshot())
		cam.dirty = false
	}
}

// aim tells the finder and the gate what is captured now. Neither makes us wait.
func (c *Controller) aim() {
	set := map[finder.Owner]finder.Target{}
	var gated []uint32
	for owner, cam := range c.campaigns {
		set[owner] = cam.target()
		if cam.gated = cam.wantsGate(); cam.gated {
			gated = append(gated, owner.UID)
		}
	}
	slices.Sort(gated)
	c.finder.Watch(set)
	c.gate.Watch(slices.Compact(gated)) // one user may be captured in several containers
}

// within returns the containers that a process is in for certain.
func (c *Controller) within(pid int) []string {
	ids, _ := c.containers.Within(pid)
	return ids
}
