package strace

import (
	"time"

	"culprit/internal/event"
	"culprit/internal/text"
)

// A Header says at the beginning of a trace file what the trace belongs to.
type Header struct {
	Trace *event.Trace
	Hit   *event.Hit // that triggered it; nil: started by hand
	// Origin says in words what sent the packet of the hit.
	Origin string
}

// Append appends the lines of the header.
func (h Header) Append(to []byte) []byte {
	c := comments(to)
	t := h.Trace
	p, d := &t.Process, &t.Culprit
	c.add(keyTrace, "%s", t.Event.ID)
	c.add(keyCapture, "%s of user %s", d.Capture.ID, &t.User)
	if h.Hit != nil {
		h.hit(&c)
	} else {
		c.add(keyHit, "none: started by hand")
	}
	c.add(keyProcess, "%d, started %s, found by %s", p.PID, p.Start.Format(time.RFC3339Nano), d.FoundBy)
	c.add(keyExecutable, "%s", p.Executable)
	c.add(keyCommandLine, "%s", p.CommandLine)
	c.add(keyDirectory, "%s", p.WorkingDirectory)
	for _, parent := range p.Ancestry() {
		c.add(keyParent, "%s", parent)
	}
	if t.Container != nil {
		c.add(keyContainer, "%s", t.Container.ID)
	}
	c.add(keyStrace, "%s", text.Quote(d.Command))
	return c
}

// hit adds the lines about the hit.
func (h Header) hit(c *comments) {
	hit := h.Hit
	linked := "the latest of the user when this process was found"
	for _, p := range hit.Senders() {
		if p.EntityID == h.Trace.Process.EntityID {
			linked = "a packet of this process"
		}
	}
	question := "no DNS question"
	if hit.DNS != nil {
		question = "dns id " + hit.DNS.ID + " asks " + hit.Asks()
	}
	c.add(keyHit, "%s at %s, rule %s", hit.Event.ID, hit.Timestamp.Format(time.RFC3339Nano), hit.Rule.Name)
	c.add(keyLinked, "%s", linked)
	c.add(keyPacket, "%s %s -> %s, %s", hit.Network.Transport, hit.Source, hit.Destination, question)
	c.add(keyOrigin, "%s", h.Origin)
}
