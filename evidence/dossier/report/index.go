package report

import (
	"cmp"
	"slices"
	"time"

	"culprit/internal/event"
)

// sure is how sure we are who sent a packet.
type sure int

const (
	unknown  sure = iota
	guessed       // only candidates
	socket        // the process held the packet's socket
	probable      // a line of a trace fits all that is left of the packet
	seen          // the kernel saw the process send the very packet
	proven        // a line of a trace sent the very packet
)

// String returns the word for it, which is also a class of the style sheet.
func (s sure) String() string {
	return [...]string{"unknown", "guess", "socket", "probable", "kernel", "proven"}[s]
}

// index finds documents of a case by what they refer to.
type index struct {
	*Case
	hits     map[string]*event.Hit
	traces   map[string]*event.Trace
	programs map[int][]*event.Program // by PID
	proofs   []*event.Proof           // one of each hit, by time
	proofOf  map[string]int           // the index in proofs, by the hit's id
}

func newIndex(c *Case) *index {
	x := &index{
		Case:     c,
		hits:     make(map[string]*event.Hit, len(c.Hits)),
		traces:   make(map[string]*event.Trace, len(c.Traces)),
		programs: map[int][]*event.Program{},
		proofOf:  map[string]int{},
	}
	for i := range c.Hits {
		x.hits[c.Hits[i].Event.ID] = &c.Hits[i]
	}
	for i := range c.Traces {
		x.traces[c.Traces[i].Event.ID] = &c.Traces[i]
	}
	for i := range c.Programs {
		p := &c.Programs[i]
		x.programs[p.Process.PID] = append(x.programs[p.Process.PID], p)
	}
	best := map[string]*event.Proof{}
	for i := range c.Proofs {
		p := &c.Proofs[i]
		if old := best[p.Culprit.Hit.ID]; old == nil || old.Culprit.Probable && !p.Culprit.Probable {
			best[p.Culprit.Hit.ID] = p
		}
	}
	for _, p := range best {
		x.proofs = append(x.proofs, p)
	}
	slices.SortFunc(x.proofs, func(a, b *event.Proof) int {
		return cmp.Or(a.Timestamp.Compare(b.Timestamp), cmp.Compare(a.Event.ID, b.Event.ID))
	})
	for i, p := range x.proofs {
		x.proofOf[p.Culprit.Hit.ID] = i
	}
	return x
}

// packets returns how many hits the capture had, shown or not.
func (x *index) packets() int {
	return max(x.Capture.Culprit.Hits, len(x.Hits)+x.HitsLeftOut)
}

// slack is how far the clocks of the process table, strace and packets may differ.
const slack = 100 * time.Millisecond

// sender returns the process of the thread that a proof names, or nil. The proof itself may name
// only the traced process, whose trace holds descendants too, and the number of a thread need not
// be that of its process. So sender looks for a process of that number that lived then, then for
// the holder of the packet's socket. Last comes the traced process; exact is then false, as it may
// have been a descendant.
func (x *index) sender(p *event.Proof) (process *event.Process, exact bool) {
	tid, at := p.Culprit.TID, p.Timestamp
	if p.Process.PID == tid && tid != 0 {
		return &p.Process, true
	}
	for _, candidate := range x.programs[tid] {
		e := &candidate.Event
		if (e.Start == nil || !e.Start.After(at.Add(slack))) && (e.End == nil || !e.End.Before(at.Add(-slack))) {
			return &candidate.Process, true
		}
	}
	t := x.traces[p.Culprit.Trace.ID]
	if t != nil && t.Process.PID == tid {
		return &t.Process, true
	}
	if h := x.hits[p.Culprit.Hit.ID]; h != nil && h.Process != nil {
		return h.Process, true
	}
	switch {
	case p.Process.PID != 0:
		return &p.Process, false
	case t != nil:
		return &t.Process, false
	}
	return nil, false
}

// sure returns how sure we are who sent a hit's packet. The hit may have a proof that is not in the
// report.
func (x *index) sure(h *event.Hit) sure {
	d := h.Culprit.Proof
	if i, ok := x.proofOf[h.Event.ID]; ok {
		d = &x.proofs[i].Culprit
	}
	switch {
	case d != nil && !d.Probable:
		return proven
	case h.Culprit.Origin.Grade == event.GradeKernel && h.Process != nil:
		return seen
	case d != nil:
		return probable
	case h.Process != nil:
		return socket
	case len(h.Culprit.Origin.Processes) > 0:
		return guessed
	}
	return unknown
}

// key tells processes apart, even without an entity id.
func key(p *event.Process) string {
	if p.EntityID != "" {
		return p.EntityID
	}
	return describe(p) + p.Start.String()
}

// kind is equal for processes that run the same program below the same parents.
func kind(p *event.Process) string {
	k := ""
	for depth := 0; p != nil && depth < maxParents; p, depth = p.Parent, depth+1 {
		k += cmp.Or(p.Executable, p.Name, p.CommandLine) + "\x00"
	}
	return k
}
