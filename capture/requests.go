package capture

import (
	"context"
	"fmt"
	"time"

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

// Trace starts a capture of a UID by hand, of the processes that it has and of new ones. It
// ends after a number of processes, or after the window. strings is strace's -s. A guard
// may forbid it. [Controller.Run] must be running.
func (c *Controller) Trace(uid uint32, processes int, window time.Duration, strings int) error {
	// We look the user up here: that can take long (man 5 nsswitch.conf), and Run must not wait.
	o := order{uid, c.users.User(uid), processes, window, strings, make(chan error, 1)}
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
	uid       uint32
	user      event.User
	processes int
	window    time.Duration
	strings   int
	answer    chan error // has room for the answer
}

func (m order) handle(c *Controller) { m.answer <- c.order(m) }

// order starts a capture by hand.
func (c *Controller) order(o order) error {
	guard := c.guard.Load()
	switch {
	case c.stopping:
		return context.Canceled
	case o.uid == 0:
		return fmt.Errorf("trace user root: its processes are the whole machine: use strace -f -p PID on one process")
	case guard.ForbidsUser(o.uid):
		return fmt.Errorf("trace user %d: guard.never_users names the user", o.uid)
	case guard.scope(o.uid, config.ScopeUser) != config.ScopeUser:
		return fmt.Errorf("trace user %d: guard.process_scope_users names the user: use strace -f -p PID on one of its processes", o.uid)
	}
	levels := []config.Level{{Processes: o.processes, Window: o.window, Strings: o.strings}}
	cam := newCampaign(o.user, config.ScopeUser, levels, 0, time.Now())
	cam.search.scans++
	cam.dirty = true
	c.campaigns[o.uid] = cam
	c.aim()
	return nil
}
