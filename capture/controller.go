package capture

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"culprit/capture/finder"
	"culprit/capture/gate"
	"culprit/internal/config"
	"culprit/internal/event"
	"culprit/internal/proc"
	"culprit/internal/strace"
	"culprit/internal/words"
)

// Controller owns all captures. Make one with [New], give it hits, and let
// [Controller.Run] run.
type Controller struct {
	cfg      config.Capture
	guard    *atomic.Pointer[guard] // replaced as a whole, by Run; others only read it
	strace   strace.Program
	recorder Recorder
	meter    Meter
	log      *slog.Logger
	fs       proc.FS
	users    *proc.Users
	finder   *finder.Finder
	spawner  spawner
	gate     theGate

	inbox chan message
	done  chan struct{} // closed when nobody reads inbox any more

	// What follows belongs to the goroutine of Run.
	captures map[uint32]*capture
	of       map[*tracer]*capture // whose tracer it is
	forwards forwards
	running  int // straces
	stopping bool
	tracers  sync.WaitGroup
}

// New makes a controller for the configuration. It starts nothing. The meter may be nil.
// Programs are the paths of those that we start beside strace, see [gate.Exempt].
func New(c *config.Config, program strace.Program, recorder Recorder, meter Meter, log *slog.Logger, programs ...string) *Controller {
	if meter == nil {
		meter = noMeter{}
	}
	k := &Controller{
		cfg: c.Capture, guard: new(atomic.Pointer[guard]), strace: program, recorder: recorder, meter: meter, log: log,
		fs: proc.Default, users: new(proc.Users), spawner: newSpawner(),
		inbox: make(chan message, 1024), done: make(chan struct{}),
		captures: map[uint32]*capture{}, of: map[*tracer]*capture{}, forwards: forwards{},
	}
	k.guard.Store(newGuard(k.fs, c.Guard))
	k.finder = finder.New(k.fs, func() finder.Guard { return k.guard.Load() }, log, finderOutput{k.send})
	k.gate = newGate(c.Capture, append(programs, program.Path), k)
	return k
}

// maxCaptures bounds the captures that run at once. Whoever may use many UIDs (user
// namespaces, man 5 subuid) must not make us hold one for each; the straces are far fewer.
const maxCaptures = 500

// reload is a configuration that replaces the one in force.
type reload struct {
	capture config.Capture
	guard   *guard
}

// Reload puts another configuration into force. Captures that run keep their levels;
// whether and how programs are held does not change.
func (k *Controller) Reload(c *config.Config) {
	k.send(reload{c.Capture, newGuard(k.fs, c.Guard)})
}

func (m reload) handle(k *Controller) {
	m.capture.Gate, m.capture.GateDeadline = k.cfg.Gate, k.cfg.GateDeadline
	k.cfg = m.capture
	k.guard.Store(m.guard)
}

// Turns waits until the loop of [Controller.Run] has come round, which shows that it
// is not stuck.
func (k *Controller) Turns(ctx context.Context) error {
	done := make(chan struct{})
	select {
	case k.inbox <- turn{done}:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// order is a capture that somebody wants by hand.
type order struct {
	uid       uint32
	processes int
	window    time.Duration
	strings   int
	refused   chan error // has room for the answer
}

func (m order) handle(k *Controller) { m.refused <- k.order(m, time.Now()) }

// Hit tells the controller of a hit. It waits only while more than a thousand
// others are waiting. The hit belongs to the controller from then on.
func (k *Controller) Hit(h *event.Hit) { k.send(hitMessage{h}) }

// Trace captures a UID by hand: the processes that are there and those that come,
// so many in all, for so long. Strings is strace's -s. It fails where a guard
// forbids it. [Controller.Run] must be running.
func (k *Controller) Trace(uid uint32, processes int, window time.Duration, strings int) error {
	o := order{uid, processes, window, strings, make(chan error, 1)}
	k.send(o)
	select {
	case err := <-o.refused:
		return err
	case <-k.done:
		return context.Canceled
	}
}

// send passes a message to Run, or drops it once Run is over.
func (k *Controller) send(m message) {
	select {
	case k.inbox <- m:
	case <-k.done:
	}
}

// Run works until the context ends, then detaches every strace and waits for them.
func (k *Controller) Run(ctx context.Context) {
	// The spawner's thread outlives the context: straces end in order only while
	// it lives. Tracers end by being told to.
	spawnerCtx, stopSpawner := context.WithCancel(context.WithoutCancel(ctx))
	var helpers sync.WaitGroup
	helpers.Go(func() { k.finder.Run(ctx) })
	helpers.Go(func() { k.spawner.run(spawnerCtx) })
	helpers.Go(func() { k.gate.Run(ctx, gateOutput{k, new(gate.Counts), new(atomic.Bool)}) })
	defer func() {
		close(k.done)
		k.tracers.Wait()
		stopSpawner()
		helpers.Wait()
	}()

	wakeup := time.NewTimer(0)
	defer wakeup.Stop()
	stop := ctx.Done()
	for {
		select {
		case m := <-k.inbox:
			m.handle(k)
		case <-wakeup.C:
		case <-stop:
			stop, k.stopping = nil, true
			for _, c := range k.captures {
				c.close(event.EndedStopped, time.Now())
			}
		}
		if next := k.settle(time.Now()); !next.IsZero() {
			wakeup.Reset(time.Until(next))
		} else {
			wakeup.Stop()
		}
		if k.stopping && k.running == 0 && len(k.inbox) == 0 {
			return
		}
	}
}

// settle lets time do its work on the captures and returns when to do so again,
// the zero time if never.
func (k *Controller) settle(now time.Time) (next time.Time) {
	changed := false
	for uid, c := range k.captures {
		gated := c.isGated
		before := c.doc.Culprit.State
		c.update(now)
		c.isGated = c.gated()
		changed = changed || c.isGated != gated || c.ended()
		if c.ended() {
			c.leave()
		}
		for _, p := range c.programs.changed {
			k.recorder.Program(p)
		}
		c.programs.changed = nil
		// In a flood of hits the recorder is not told of every one.
		if c.ended() || c.doc.Culprit.State != before || c.dirty && len(k.inbox) == 0 {
			k.recorder.Capture(c.snapshot())
			c.dirty = false
		}
		if c.ended() {
			k.log.Info("capture ended", c.logAttrs(), slog.String("because", words.CaptureEnded(c.doc.Culprit.EndedBecause)))
			delete(k.captures, uid)
			continue
		}
		if c.rescan(now, k.running < k.cfg.Concurrent) {
			changed = true
		}
		if at := c.next(now); at.After(now) && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	if changed {
		k.watch()
	}
	k.meter.Running(len(k.captures), k.running)
	return next
}

// hit starts the capture of the hit's UID, or intensifies it.
func (k *Controller) hit(h *event.Hit, now time.Time) {
	defer k.recorder.Hit(h)
	if why := k.noCapture(h); why != nil {
		h.Culprit.NoCapture = why
		return
	}
	uid := h.User.UID()
	c := k.captures[uid]
	if c == nil {
		c = newCapture(uid, event.User{ID: h.User.ID, Name: h.User.Name}, k.guard.Load().scope(uid, k.cfg.Scope), k.cfg.Levels, k.cfg.Linger, now)
		k.captures[uid] = c
	}
	h.Culprit.Capture = &event.Reference{ID: c.doc.Event.ID}
	isNew := c.lastHit == nil
	raised, newSender := c.hit(h, k.guard.Load().senders(h), now)
	c.update(now)
	c.dirty = true
	switch {
	case isNew:
		k.recorder.Capture(c.snapshot()) // before the hit, which names it
		k.meter.Started()
		k.log.Info("capture started", c.logAttrs(), slog.String("rule", h.Rule.Name))
	case raised:
		k.log.Info("capture intensified", c.logAttrs())
	}
	if isNew || raised || newSender && c.doc.Culprit.Scope == config.ScopeProcess {
		c.scans++
	}
	if isNew || raised || newSender {
		k.watch()
	}
}

// noCapture says why a hit neither starts nor joins a capture, or nil.
func (k *Controller) noCapture(h *event.Hit) *event.NoCapture {
	if k.stopping {
		return &event.NoCapture{Code: event.NoCaptureStopping}
	}
	if resolver := k.guard.Load().resolver(h); resolver != "" {
		return k.forwards.join(h, resolver)
	}
	k.forwards.ask(h)
	if h.User == nil {
		return &event.NoCapture{Code: event.NoCaptureNoUID}
	}
	uid := h.User.UID()
	if k.guard.Load().ForbidsUser(uid) {
		return &event.NoCapture{Code: event.NoCaptureNeverUsers}
	}
	if k.captures[uid] == nil && len(k.captures) >= maxCaptures {
		return &event.NoCapture{Code: event.NoCaptureTooMany, Detail: strconv.Itoa(maxCaptures)}
	}
	if k.captures[uid] == nil && k.guard.Load().scope(uid, k.cfg.Scope) == config.ScopeProcess && len(k.guard.Load().senders(h)) == 0 {
		return &event.NoCapture{Code: event.NoCaptureNoProcess}
	}
	return nil
}

// order starts a capture by hand.
func (k *Controller) order(o order, now time.Time) error {
	if k.stopping {
		return context.Canceled
	}
	if o.uid == 0 {
		return fmt.Errorf("trace user root: its processes are the whole machine: use strace -f -p PID on one of them")
	}
	if k.guard.Load().ForbidsUser(o.uid) {
		return fmt.Errorf("trace user %d: guard.never_users names the user", o.uid)
	}
	if k.guard.Load().scope(o.uid, config.ScopeUser) != config.ScopeUser {
		return fmt.Errorf("trace user %d: guard.process_scope_users names the user: use strace -f -p PID on one of its processes", o.uid)
	}
	levels := []config.Level{{Processes: o.processes, Window: o.window, Strings: o.strings}}
	c := newCapture(o.uid, k.users.User(o.uid), config.ScopeUser, levels, 0, now)
	c.scans++
	c.dirty = true
	k.captures[o.uid] = c
	k.watch()
	return nil
}

// watch tells the finder what is captured now.
func (k *Controller) watch() {
	set := map[uint32]finder.Watch{}
	var gated []uint32
	for uid, c := range k.captures {
		set[uid] = c.watch()
		if c.gated() {
			gated = append(gated, uid)
		}
	}
	k.finder.Watch(set)
	k.gate.Watch(gated)
}

// logAttrs are what every log line about a capture says of it.
func (c *capture) logAttrs() slog.Attr {
	d := &c.doc.Culprit
	return slog.GroupAttrs("",
		slog.Group("user", "id", c.doc.User.ID, "name", c.doc.User.Name),
		slog.Group("culprit", "capture", c.doc.Event.ID, "scope", d.Scope, "level", d.Level, "hits", d.Hits, "traces", d.Traces))
}
