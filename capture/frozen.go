package capture

import (
	"cmp"
	"time"

	"culprit/capture/finder"
	"culprit/internal/event"
	"culprit/internal/proc"
)

// Stops are the processes that the kernel stops, when they send a packet or start, a
// [sensor.Sensor].
type Stops interface {
	// Holds reports whether a hold is one of these stops, and not one of the gate.
	Holds(number uint64) bool
	// AtStart reports whether the process was stopped at its start, and not at a packet.
	AtStart(number uint64) bool
	// Go lets a process go on. It returns how long the process stood still, and false if it has
	// gone on already. It never waits.
	Go(number uint64) (stood time.Duration, was bool)
	// Left lets a process go on that eu-stack has left stopped, if its hold is over.
	Left(id proc.ID, number uint64)
	// Claim says that a strace is about to be started on a process: the kernel does not stop
	// it any more. It reports whether it has done so already.
	Claim(id proc.ID) (isStopped bool)
	// Leave says that a process is not to be traced: neither it nor its children are stopped at
	// their start, for a minute, as long as they belong to the user, are in the cgroup, and do not become other programs.
	Leave(id proc.ID, uid uint32, cgroup uint64)
	// Reconsider undoes all of that, as others are wanted now.
	Reconsider()
	// Starts stop processes at their start. It is nil if the kernel cannot do that.
	Starts() Starts
}

// noStops stands for a sensor where there is none.
type noStops struct{}

func (noStops) Holds(uint64) bool               { return false }
func (noStops) AtStart(uint64) bool             { return false }
func (noStops) Go(uint64) (time.Duration, bool) { return 0, false }
func (noStops) Left(proc.ID, uint64)            {}
func (noStops) Claim(proc.ID) bool              { return false }
func (noStops) Leave(proc.ID, uint32, uint64)   {}
func (noStops) Reconsider()                     {}
func (noStops) Starts() Starts                  { return nil }

// LetGo lets a process go on whose packet is no hit.
func (c *Controller) LetGo(hold uint64) { c.goOn(hold, event.WentOnLetGo) }

// goOn lets a process go on that the kernel stopped.
func (c *Controller) goOn(hold uint64, why event.WentOnCode) {
	stood, was := c.stops.Go(hold)
	switch atStart := c.stops.AtStart(hold); {
	case atStart && was:
		c.meter.Held(stood)
		return
	case atStart:
		c.meter.GateExpired(1)
		return
	case !was:
		why = event.WentOnExpired
	}
	c.meter.WentOn(why, stood)
}

// frozen traces the sender of a hit that stands still since its packet. It goes on when strace is
// attached, or at once if it is not to be traced.
func (c *Controller) frozen(owner Owner, h *event.Hit) {
	if h.Hold == 0 {
		return
	}
	if h.Culprit.Sent == nil { // who sent the packet is not certain
		c.letGo(h.Hold)
		return
	}
	id, _ := proc.ParseID(h.Process.EntityID)
	f := found{hold: h.Hold, Process: finder.Process{
		ID: id, Owner: owner, UID: h.Owner().UID(), How: event.FoundPacket, At: h.Culprit.Sent.Timestamp,
		Program: proc.Program{Name: h.Process.Name, Executable: h.Process.Executable, CommandLine: h.Process.CommandLine},
		Parent:  h.Process.Parent,
	}}
	guard := c.guard.Load()
	st, err := c.fs.Stat(id.PID)
	status, failed := c.fs.Status(id.PID)
	if f.gone = cmp.Or(err, failed) != nil || st.ID != id || st.Dead(); !f.gone {
		var who *event.Untraced
		who, f.TracedByUs = guard.TracedBy(status)
		f.TracerPID = status.TracerPID
		if f.Forbidden = guard.Forbids(st, status, f.Program.Executable); f.Forbidden == nil && !f.TracedByUs {
			f.Forbidden = who
		}
	}
	f.handle(c)
}
