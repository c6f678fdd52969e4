package capture

import (
	"cmp"
	"context"
	"time"

	"culprit/capture/finder"
	"culprit/capture/gate"
	"culprit/internal/event"
	"culprit/internal/proc"
)

// Where the kernel can stop programs at their start by itself, no gate is needed: nobody else's
// execve waits, and forks without execve are held, too.

// Starts stop the processes of captured users at their start, and let them go on as [Stops] do:
// what a [sensor.Sensor] can do.
type Starts interface {
	// Hold sets the users. With none, nobody pays for it. It may take a while. One goroutine calls
	// it, another one Next.
	Hold(uids []uint32) error
	// Next waits for the next process that is stopped. It fails if there is none any more, or
	// because of Wake.
	Next() (Start, error)
	// Wake makes Next return.
	Wake()
	// Unheld returns how many processes were not stopped that should have been, since the start.
	Unheld() uint64
}

// Start is a process that is stopped before its first instruction, or when it has become a
// captured user.
type Start struct {
	Hold uint64 // 0: it is not stopped, as too many are
	ID   proc.ID
	UID  uint32
	// Cgroup of v2 that it is in.
	Cgroup uint64
	How    string // FoundExec, FoundFork or FoundUID
	At     time.Time
}

// holder is a keeper that needs no gate. One goroutine calls Watch.
type holder struct {
	starts  Starts
	started func(Start)
	watches chan []uint32 // the latest set that has not been taken yet
}

func newHolder(starts Starts, started func(Start)) *holder {
	return &holder{starts: starts, started: started, watches: make(chan []uint32, 1)}
}

// Watch sets the users whose programs are held. It never waits.
func (h *holder) Watch(uids []uint32) {
	select {
	case <-h.watches:
	default:
	}
	h.watches <- uids
}

// Go does nothing: the holds are not a gate's.
func (*holder) Go(uint64) {}

// countEvery is how often it is looked at what was not held, and how soon after a failure the
// kernel is asked again.
const countEvery = time.Second

// Run holds programs until the context ends.
func (h *holder) Run(ctx context.Context, out gate.Output) {
	read := make(chan struct{})
	go func() {
		defer close(read)
		for {
			s, err := h.starts.Next()
			if err == nil {
				h.started(s)
				continue
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(countEvery):
			}
		}
	}()
	defer func() {
		_ = h.starts.Hold(nil) // closing the sensor does it, too
		h.starts.Wake()
		<-read
	}()
	ticker := time.NewTicker(countEvery)
	ticker.Stop()
	defer ticker.Stop()
	var uids []uint32
	holds, before := false, uint64(0) // before: what was unheld until the last failure
	for {
		select {
		case uids = <-h.watches:
		case <-ticker.C:
			out.Counted(gate.Counts{Busy: h.starts.Unheld() - before})
			if holds {
				continue
			}
		case <-ctx.Done():
			return
		}
		held := holds
		if err := h.starts.Hold(uids); err != nil {
			out.Down(err)
			holds, before = false, h.starts.Unheld()
		} else if holds = len(uids) > 0; holds && !held {
			out.Marked("")
		}
		if len(uids) > 0 {
			ticker.Reset(countEvery)
		} else {
			ticker.Stop()
			out.Counted(gate.Counts{Busy: h.starts.Unheld() - before})
		}
	}
}

// HoldsFailed says that the kernel stopped nobody for a while.
func (c *Controller) HoldsFailed(err error) {
	if _, is := c.gate.(*holder); is {
		c.meter.GateFailed()
		c.send(gateDown{err})
	}
}

// started passes a process on that is stopped at its start, and goes on when strace is attached.
func (c *Controller) started(s Start) {
	f := held{within: c.within(s.ID.PID)}
	f.found = found{hold: s.Hold, cgroup: s.Cgroup, Process: finder.Process{ID: s.ID, UID: s.UID, How: s.How, At: s.At}}
	st, err := c.fs.Stat(s.ID.PID)
	status, failed := c.fs.Status(s.ID.PID)
	if f.gone = cmp.Or(err, failed) != nil || st.ID != s.ID || st.Dead(); !f.gone {
		f.Process = finder.Describe(c.fs, c.guardInForce(), st, status, s.How, s.At)
		f.UID = s.UID // the captured one, which may be the effective one
	}
	c.send(f)
}

// leave makes the kernel hold a process no more that was held at its start and is not traced. If it
// is the child of one that is not traced either, its siblings are not held.
func (c *Controller) leave(f found) {
	if f.hold == 0 || f.How == event.FoundPacket || !c.stops.Holds(f.hold) {
		return
	}
	c.stops.Leave(f.ID, f.UID, f.cgroup)
	if f.How == event.FoundFork && f.Parent != nil {
		if id, ok := proc.ParseID(f.Parent.EntityID); ok {
			c.stops.Leave(id, f.UID, f.cgroup)
		}
	}
}
