package capture

import (
	"context"
	"fmt"
	"time"

	"culprit/capture/finder"
	"culprit/internal/config"
	"culprit/internal/event"
)

// What the rest of the program asks of the controller, beside taking in hits.

// Turns waits until the loop of [Controller.Run] has turned, which shows that it is not
// stuck.
func (c *Controller) Turns(ctx context.Context) error {
	done := make(chan struct{})
	select {
	case c.inbox <- turn{done}:
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

// turn asks for a sign of life.
type turn struct{ done chan<- struct{} }

func (m turn) handle(*Controller) { close(m.done) }

// Reload puts another configuration into force. Captures that run keep their levels, and
// the gate stays as it is.
func (c *Controller) Reload(cfg *config.Config) {
	c.send(reload{cfg.Capture, newGuard(c.fs, cfg.Guard)})
}

// reload replaces the configuration.
type reload struct {
	capture config.Capture
	guard   *guard
}

func (m reload) handle(c *Controller) {
	m.capture.Gate, m.capture.GateDeadline = c.cfg.Gate, c.cfg.GateDeadline
	c.cfg = m.capture
	c.guard.Store(m.guard)
}

// Trace starts a capture by hand, of the processes that an owner has and of new ones; place describes
// the container, if it is one. It ends after a number of processes, or after the window. strings is
// strace's -s. A guard may forbid it. [Controller.Run] must be running.
func (c *Controller) Trace(owner Owner, place event.Place, processes int, window time.Duration, strings int) error {
	// We look the user up here: that can take long (man 5 nsswitch.conf), and Run must not wait.
	o := order{owner: owner, place: place, processes: processes, window: window, strings: strings, answer: make(chan error, 1)}
	if owner.UID != finder.AnyUser {
		o.user = c.users.User(owner.UID)
	}
	c.send(o)
	select {
	case err := <-o.answer:
		return err
	case <-c.done:
		return context.Canceled
	}
}

// order asks for a capture by hand.
type order struct {
	owner     Owner
	place     event.Place
	user      event.User
	processes int
	window    time.Duration
	strings   int
	answer    chan error // has room for the answer
}

func (m order) handle(c *Controller) { m.answer <- c.order(m) }

// order starts a capture by hand.
func (c *Controller) order(o order) error {
	guard, uid, scope := c.guard.Load(), o.owner.UID, config.ScopeUser
	if uid == finder.AnyUser {
		scope = config.ScopeContainer
	}
	switch {
	case c.stopping:
		return context.Canceled
	case guard.ForbidsUser(uid):
		return fmt.Errorf("trace user %d: guard.never_users names the user", uid)
	case o.owner.InContainer(): // also its root, who has no other processes there
	case uid == 0:
		return fmt.Errorf("trace user root: its processes are the whole machine: use strace -f -p PID on one process")
	case guard.scope(uid, scope) != scope:
		return fmt.Errorf("trace user %d: guard.process_scope_users names the user: use strace -f -p PID on one of its processes", uid)
	}
	levels := []config.Level{{Processes: o.processes, Window: o.window, Strings: o.strings}}
	cam := newCampaign(o.owner, o.user, scope, levels, 0, time.Now())
	cam.doc.Place = o.place
	cam.search.scans++
	cam.dirty = true
	c.campaigns[o.owner] = cam
	c.aim()
	return nil
}
