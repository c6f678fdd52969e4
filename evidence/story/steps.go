package story

import (
	"cmp"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"

	"culprit/evidence/proof"
	"culprit/internal/event"
	"culprit/internal/text"
)

// A Step is something that a program did, in one call or in several alike. What, Object and Note make a
// sentence without its subject: "opened", "/etc/hosts", "to write".
type Step struct {
	Lines []Place // at least one
	TID   int
	// Program is what the thread runs, as far as the trace has its execve or fork.
	Program string
	Time    time.Time
	What    string
	Object  string // what others wrote: escape it
	Note    string // what others wrote may be in it, too
	Packet  bool   // it sent the packet of a hit
	Gap     bool   // steps before it are left out

	all []string // objects
	// several is what What is of several calls: those for which it is the same may be joined.
	several string
	started []int // threads and processes
	bytes   int64
	to      netip.AddrPort
}

// Bounds of the steps that are kept: the first, those right before the first packet, and those after it.
const (
	firstSteps  = 12
	beforeSteps = 30
	afterSteps  = 40
	maxObject   = 300 // bytes
	maxList     = 6   // objects of one step that are named
	maxAll      = 500 // … that are known
	maxQuoted   = 60  // bytes of what was sent
	maxName     = 32  // bytes of a program's name
)

// teller puts a story together.
type teller struct {
	sources  []*source
	answers  *answers
	steps    []Step
	packets  map[Place]*event.Hit // lines that sent one
	programs map[int]string       // by thread
	until    time.Time
	from     time.Time // the first packet
	after    int       // steps after it
	more     bool      // steps after these are left out
}

func newTeller(of Of, sources []*source) *teller {
	t := &teller{sources: sources, answers: newAnswers(of.Hits), packets: map[Place]*event.Hit{}, programs: map[int]string{}, from: sent(of.Hits[0])}
	for _, h := range of.Hits {
		t.until = sent(h).Add(follow)
		p := h.Culprit.Proof
		if p == nil {
			continue
		}
		t.packets[t.where(p.Trace.ID, p.Line)] = h
		for _, part := range p.Parts {
			t.packets[t.where(p.Trace.ID, part.Line)] = h
		}
	}
	return t
}

// where returns the line that is read of those that show the same call.
func (t *teller) where(trace string, line int64) Place {
	for _, s := range t.sources {
		if other, double := s.doubles[line]; double && s.Event.ID == trace {
			return other
		}
	}
	return Place{trace, line}
}

// story returns the steps by time. A vfork returns when its child has become a program: what a process
// does comes after its start.
func (t *teller) story() *Story {
	first := map[int]time.Time{}
	for i := range t.steps {
		if s := &t.steps[i]; first[s.TID].IsZero() || s.Time.Before(first[s.TID]) {
			first[s.TID] = s.Time
		}
	}
	for i := range t.steps {
		s := &t.steps[i]
		for _, child := range s.started {
			if at := first[child]; !at.IsZero() && at.Before(s.Time) {
				s.Time = at
			}
		}
	}
	slices.SortStableFunc(t.steps, func(a, b Step) int {
		return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(len(b.started), len(a.started)))
	})
	told := &Story{Steps: t.steps, Answers: t.answers.of}
	for _, s := range t.sources {
		told.Traces = append(told.Traces, s.Trace.Trace)
	}
	return told
}

// line reads a line.
func (t *teller) line(l *line) {
	by := l.from.is(l.tid, l.number)
	if by == stranger {
		return
	}
	c, network := proof.ReadCall(l.name, l.text)
	switch {
	case network && c.Received:
		if by == itself {
			for _, answer := range t.answers.received(l, &c) {
				t.told(l, answer)
			}
		}
	case network && l.name == "connect":
		if by != ancestor {
			t.answers.connected(l, &c, by)
		}
	case network && by != ancestor:
		t.answers.sent(l, &c, by)
	}
	if by == child {
		return
	}
	if s, ok := t.step(l, &c, network); ok {
		t.add(l, s)
	}
}

// add adds a step, or joins it with the last one.
func (t *teller) add(l *line, s Step) {
	s.Lines, s.TID, s.Packet = []Place{l.place()}, l.tid, s.Packet || t.packets[l.place()] != nil
	if s.Time.IsZero() {
		s.Time = l.at
	}
	s.Object = event.Cut(s.Object, maxObject)
	s.Program = t.program(l, &s)
	if n := len(t.steps); n > 0 && t.steps[n-1].join(&s) {
		return
	}
	if !s.Time.Before(t.from) {
		if t.after++; t.after > afterSteps && !s.Packet {
			t.more = true
			return
		}
	} else if len(t.steps) == firstSteps+beforeSteps {
		t.steps = slices.Delete(t.steps, firstSteps, firstSteps+1)
		t.steps[firstSteps].Gap = true
	}
	s.Gap, t.more = t.more, false
	t.steps = append(t.steps, s)
}

// program returns what a thread runs, and notes what a step says of it and of others.
func (t *teller) program(l *line, s *Step) string {
	if tid, _, ok := l.forked(); ok && t.programs[tid] == "" && len(t.programs) < maxForks {
		t.programs[tid] = t.programs[l.tid]
	}
	if s.What == became {
		name, _, _ := strings.Cut(s.Object, " ")
		t.programs[l.tid] = event.Cut(path.Base(name), maxName)
	}
	return t.programs[l.tid]
}

// join adds a step that is like this one.
func (s *Step) join(next *Step) bool {
	if s.several == "" || s.several != next.several || s.TID != next.TID || s.Packet != next.Packet || s.to != next.to {
		return false
	}
	s.Lines, s.started = append(s.Lines, next.Lines...), append(s.started, next.started...)
	if s.What = s.several; s.What == sending {
		s.bytes += next.bytes
		s.What = fmt.Sprintf("sent %s in %d pieces to", text.Size(s.bytes), len(s.Lines))
		return true
	}
	if len(s.all) == 0 {
		s.all = []string{s.Object}
	}
	if !slices.Contains(s.all, next.Object) && len(s.all) < maxAll {
		s.all = append(s.all, next.Object)
	}
	s.list()
	return true
}

// list names some of many objects: rather those that are not the same on every machine.
func (s *Step) list() {
	names := slices.Clone(s.all)
	if more := len(names) - maxList; more > 0 {
		slices.SortStableFunc(names, func(a, b string) int {
			switch dullA, dullB := isDull(a), isDull(b); {
			case dullA == dullB:
				return 0
			case dullA:
				return 1
			}
			return -1
		})
		names, s.Note = names[:maxList], fmt.Sprintf("and %d more", more)
	}
	s.Object = strings.Join(names, ", ")
}

// isDull reports whether programs open a file before they get to work.
func isDull(path string) bool {
	for _, prefix := range [...]string{"/usr/", "/lib/", "/sys/", "/etc/php", "/etc/ssl"} {
		if strings.HasPrefix(path, prefix) {
			return true
		}
	}
	return strings.HasSuffix(path, ".pyc") || strings.HasSuffix(path, ".ini")
}
