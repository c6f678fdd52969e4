package capture

import (
	"time"

	"culprit/capture/finder"
	"culprit/internal/event"
)

// message is what the controller's inbox holds: a hit, a request, or the news of a
// helper. handle takes it in, on the goroutine of [Controller.Run].
type message interface{ handle(*Controller) }

// hitMessage is a hit of the trigger.
type hitMessage struct{ hit *event.Hit }

func (m hitMessage) handle(k *Controller) { k.hit(m.hit, time.Now()) }

// turn asks for an answer, to see that the loop of Run turns.
type turn struct{ done chan<- struct{} }

func (m turn) handle(*Controller) { close(m.done) }

// Messages of the finder.
type (
	// found tells of a process of a captured UID, perhaps not for the first time.
	found struct {
		finder.Process
		hold uint64 // the gate holds it under this number; 0: it does not
		gone bool   // it has ended since
	}
	// exited tells that a process has ended.
	exited finder.Exit
	// unseen tells that a process was gone before it could be looked at.
	unseen struct{ uid uint32 }
	// forbidden tells that a strace of ours must let go of a process that has become a
	// user who is never traced.
	forbidden struct{ strace int }
	// scanned says that all of /proc was looked at.
	scanned finder.Scan
)

// finderOutput passes on what the finder tells.
type finderOutput struct{ send func(message) }

func (o finderOutput) Found(p finder.Process) { o.send(found{Process: p}) }
func (o finderOutput) Exited(e finder.Exit)   { o.send(exited(e)) }
func (o finderOutput) Unseen(uid uint32)      { o.send(unseen{uid}) }
func (o finderOutput) Forbidden(strace int)   { o.send(forbidden{strace}) }
func (o finderOutput) Scanned(s finder.Scan)  { o.send(scanned(s)) }

func (m found) handle(k *Controller) { k.found(m) }

func (m exited) handle(k *Controller) {
	for _, c := range k.captures {
		c.exited(m)
	}
}

func (m unseen) handle(k *Controller) {
	if c := k.captures[m.uid]; c != nil {
		c.doc.Culprit.Unseen++
		c.dirty = true
	}
}

func (m forbidden) handle(k *Controller) {
	for t, c := range k.of {
		if tr := c.tracing[t]; tr.doc.Culprit.Strace == m.strace {
			t.detach(event.Ended{Code: event.EndedNeverUsers})
		}
	}
}

func (m scanned) handle(k *Controller) {
	if m.Overrun {
		k.meter.Overrun()
	}
	for _, c := range k.captures {
		c.onlyAlive(m.Alive, m.Began)
		if m.Overrun {
			c.doc.Culprit.Overruns++
			c.dirty = true
		}
	}
}
