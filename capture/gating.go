package capture

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"culprit/capture/finder"
	"culprit/capture/gate"
	"culprit/internal/config"
	"culprit/internal/event"
	"culprit/internal/fanotify"
	"culprit/internal/proc"
)

// keeper is what holds programs at their start, as the controller sees it: a [gate.Keeper], a
// [holder], or nothing. Watch and Go
// never wait.
type keeper interface {
	Watch(uids []uint32)
	Go(number uint64)
	Run(context.Context, gate.Output)
}

// noGate stands for a gate where there is none.
type noGate struct{}

func (noGate) Watch([]uint32)                         {}
func (noGate) Go(uint64)                              {}
func (noGate) Run(ctx context.Context, _ gate.Output) { <-ctx.Done() }

// newKeeper makes what holds programs. starts are nil where the kernel cannot do it by itself; then
// there is a gate, which is never asked about the programs with these paths.
func newKeeper(c config.Capture, starts Starts, started func(Start), programs []string, log *slog.Logger) keeper {
	switch {
	case c.Gate == config.GateOff:
		return noGate{}
	case starts != nil && (c.Gate == config.GateAuto || c.Gate == config.GateBPF):
		return newHolder(starts, started)
	}
	var exempt []string
	for _, path := range programs {
		files, err := gate.Exempt(path)
		if err != nil {
			log.Warn("no gate: programs are traced from shortly after their start", "error", err)
			return noGate{}
		}
		exempt = append(exempt, files...)
	}
	slices.Sort(exempt)
	exempt = slices.Compact(exempt)
	stop := c.Gate == config.GateStop || !fanotify.AttachInExecve()
	return gate.NewKeeper(gate.Config{Deadline: c.GateDeadline, Stop: stop, Exempt: exempt})
}

// gateDown says that the gate failed.
type gateDown struct{ err error }

// handle lets the finder look for the programs that are started unseen by the gate.
func (m gateDown) handle(c *Controller) {
	c.log.Error("the gate failed: until it is back, programs are traced from shortly after their start", "error", m.err)
	for _, cam := range c.campaigns {
		cam.doc.Culprit.GateFailures++
		cam.dirty = true
		cam.search.scans++
	}
	c.aim()
}

// gateUnheld says that the gate did not hold programs that it should have held.
type gateUnheld struct{ count int }

func (m gateUnheld) handle(c *Controller) {
	for _, cam := range c.campaigns {
		if cam.gated {
			cam.doc.Culprit.Unheld += m.count
			cam.dirty = true
		}
	}
}

// gateOutput passes the news of the gate to the controller. Its methods are called on the
// goroutine of the keeper.
type gateOutput struct {
	send   func(message)
	guard  func() finder.Guard // the one in force
	meter  Meter
	log    *slog.Logger
	fs     proc.FS
	within finder.Within

	last    gate.Counts
	reading atomic.Bool // execArgs reads the memory of a process
}

func (c *Controller) gateOutput() *gateOutput {
	return &gateOutput{send: c.send, guard: c.guardInForce, meter: c.meter, log: c.log, fs: c.fs, within: c.within}
}

// Held passes a held process to the controller, which ends the hold. What the process is
// about to become counts, not what it still is.
func (o *gateOutput) Held(h gate.Held) {
	f := held{within: o.within(h.ID.PID)}
	f.found = found{hold: h.Number, Process: finder.Process{
		ID: h.ID, UID: h.UID, How: event.FoundGate, At: h.Began(),
		Program:   proc.Program{Name: filepath.Base(h.Path), Executable: h.Path, CommandLine: h.Path}, // at least
		TracerPID: h.Tracer,
	}}
	defer func() { o.send(f) }()
	if h.Number == 0 { // it is traced, so it is not held
		f.Forbidden, f.TracedByUs = o.guard().TracedBy(proc.Status{TracerPID: h.Tracer})
		if f.TracedByUs = f.TracedByUs || f.Forbidden == nil; f.TracedByUs { // a tracer that is gone was most likely ours
			f.Forbidden = nil
		}
	}
	st, err := o.fs.Stat(h.ID.PID)
	if err != nil || st.ID != h.ID { // nothing held it, or not long enough
		f.gone = true
		return
	}
	if args, err := o.execArgs(h.ID.PID); err == nil {
		f.Program.CommandLine = proc.JoinArgs(args, proc.MaxCommandLine)
	} else if exe, _ := o.fs.Executable(h.ID.PID); exe == h.Path { // it was not held: it is that by now
		f.Program.CommandLine = o.fs.CommandLine(h.ID.PID)
	}
	f.Parent = finder.Parent(o.fs, st.PPID)
	// The user is watched, so it is not root.
	f.Forbidden = cmp.Or(o.guard().Forbids(st, proc.Status{UID: proc.IDs{Real: h.UID}}, h.Path), f.Forbidden)
}

// execArgs reads the arguments of an execve from the memory of its process. That memory can
// be a file of a user's file system (FUSE), which may never answer. So it waits only for a
// moment: the goroutine of the keeper has to ping the gate.
func (o *gateOutput) execArgs(pid int) ([]string, error) {
	type result struct {
		args []string
		err  error
	}
	const patience = 100 * time.Millisecond
	if !o.reading.CompareAndSwap(false, true) {
		return nil, errors.New("an earlier one is still being read")
	}
	read := make(chan result, 1)
	go func() {
		defer o.reading.Store(false)
		args, err := o.fs.ExecArgs(pid)
		read <- result{args, err}
	}()
	select {
	case r := <-read:
		return r.args, r.err
	case <-time.After(patience):
		return nil, errors.New("cannot read its memory in time")
	}
}

// Down passes on that the gate failed.
func (o *gateOutput) Down(err error) {
	o.last = gate.Counts{} // the next one counts from 0
	o.meter.GateFailed()
	o.send(gateDown{err})
}

// Marked logs what could not be marked.
func (o *gateOutput) Marked(trouble string) {
	if trouble == "" {
		o.log.Debug("the gate is in place")
		return
	}
	o.log.Warn("the gate does not cover every file system: programs elsewhere are traced from shortly after their start", slog.String("not_covered", trouble))
}

// Counted passes on what has been counted since the last time.
func (o *gateOutput) Counted(c gate.Counts) {
	if c.Busy > o.last.Busy {
		o.send(gateUnheld{int(c.Busy - o.last.Busy)})
		o.meter.GateUnheld(c.Busy - o.last.Busy)
	}
	if c.Expired > o.last.Expired {
		o.meter.GateExpired(c.Expired - o.last.Expired)
	}
	o.last = c
}

// Gone passes on how long a process was held.
func (o *gateOutput) Gone(after time.Duration) { o.meter.Held(after) }
