package capture

import (
	"time"

	"culprit/internal/event"
)

// A Meter is told what is measured but not recorded. Its methods may be called from several
// goroutines, and must not wait for anything.
type Meter interface {
	// Started is told of each capture that a hit starts, and Running how many captures
	// and straces there are.
	Started()
	Running(captures, straces int)
	// Attached is told of each strace that attached: how its process was found, and how
	// long it took from then.
	Attached(foundBy string, took time.Duration)
	// AttachedAfter is told how long it took from the packet of its hit, if the process
	// was there when that was sent.
	AttachedAfter(hit time.Duration)
	// AttachFailed is told of each strace that did not attach, and Untraced of each process
	// that was found and for which none was started.
	AttachFailed(event.UntracedCode)
	Untraced(event.UntracedCode)
	// TraceDropped is told how many bytes a trace that has ended lacks.
	TraceDropped(bytes int64)
	// Overrun is told when process events were lost.
	Overrun()
	// Held is told how long the gate held a process.
	Held(time.Duration)
	// GateExpired counts the holds that reached their deadline, GateUnheld the programs
	// that the gate did not hold because we did not listen, GateFailed the gates that
	// failed.
	GateExpired(n uint64)
	GateUnheld(n uint64)
	GateFailed()
	// WentOn is told of each process that the kernel stopped at a packet: why it went on, and how
	// long it stood still, if that is known.
	WentOn(why event.WentOnCode, stood time.Duration)
}

// measure tells the Meter of a strace that has just attached.
func (c *Controller) measure(t *trace) {
	how := t.doc.Culprit.FoundBy
	c.meter.Attached(how, t.attachedAt.Sub(t.foundAt))
	// A process that becomes the user later may be older than the hit, too: only those
	// that were found at their packet or among all processes were there.
	if (how == event.FoundPacket || how == event.FoundScan || how == event.FoundPoll) && t.hit != nil && t.doc.Process.Start.Before(t.hit.Timestamp) {
		c.meter.AttachedAfter(t.attachedAt.Sub(t.hit.Timestamp))
	}
}

// noMeter measures nothing.
type noMeter struct{}

func (noMeter) Started()                               {}
func (noMeter) Running(int, int)                       {}
func (noMeter) Attached(string, time.Duration)         {}
func (noMeter) AttachedAfter(time.Duration)            {}
func (noMeter) AttachFailed(event.UntracedCode)        {}
func (noMeter) Untraced(event.UntracedCode)            {}
func (noMeter) TraceDropped(int64)                     {}
func (noMeter) Overrun()                               {}
func (noMeter) Held(time.Duration)                     {}
func (noMeter) GateExpired(uint64)                     {}
func (noMeter) GateUnheld(uint64)                      {}
func (noMeter) GateFailed()                            {}
func (noMeter) WentOn(event.WentOnCode, time.Duration) {}
