package report

import (
	"cmp"
	"slices"
	"time"

	"culprit/internal/event"
)

// life is a process of the user that lived during the capture.
type life struct {
	process *event.Process
	start   time.Time
	end     time.Time // zero: it outlived the capture, or its end is unknown
	traced  bool
	trace   *event.Trace // its own, nil if it has none in the report
	seen    bool         // a look-back has what it did before strace was on it
	foundBy string
	reason  *event.Untraced // why it is not traced
	exit    *int
	proof   int // number of the first proof against it, 0: none
}

// state returns a word for how much we know of it, which is also a class of the style sheet.
func (l *life) state() string {
	switch {
	case l.proof > 0:
		return "proven"
	case l.traced:
		return "traced"
	}
	return "untraced"
}

// lives joins what programs, traces and proofs say about processes. It sorts them by their start.
func (x *index) lives() []*life {
	all := map[string]*life{}
	get := func(p *event.Process) *life {
		l := all[key(p)]
		if l == nil {
			l = &life{process: p, start: p.Start, exit: p.ExitCode}
			all[key(p)] = l
		}
		return l
	}
	for i := range x.Programs {
		p := &x.Programs[i]
		l := get(&p.Process)
		l.traced, l.foundBy, l.reason = p.Culprit.Traced, p.Culprit.FoundBy, p.Culprit.Reason
		if p.Event.End != nil {
			l.end = *p.Event.End
		}
	}
	for i := range x.Traces {
		t := &x.Traces[i]
		l := get(&t.Process)
		if t.Culprit.LookBack != nil {
			l.traced, l.seen = true, l.seen || t.Culprit.FromStart
			if l.trace != nil {
				continue // by strace, too
			}
		}
		l.traced, l.trace, l.foundBy = true, t, t.Culprit.FoundBy
		if l.end.IsZero() && t.Process.ExitCode != nil && t.Event.End != nil {
			l.end = *t.Event.End // strace saw it end
		}
		if l.exit == nil {
			l.exit = t.Process.ExitCode
		}
	}
	for i, proof := range x.proofs {
		if p, _ := x.sender(proof); p != nil {
			if l := get(p); l.proof == 0 {
				l.proof, l.traced = i+1, true
			}
		}
	}
	list := make([]*life, 0, len(all))
	for _, l := range all {
		list = append(list, l)
	}
	slices.SortFunc(list, func(a, b *life) int {
		return cmp.Or(a.start.Compare(b.start), cmp.Compare(a.process.PID, b.process.PID))
	})
	return list
}
