package report

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"culprit/internal/event"
	"culprit/internal/text"
	"culprit/internal/words"
)

// profile counts the programs of a capture by something that they have in common.
type profile struct {
	By   string
	Rows []profileRow
	More string // what was left out, or ""
}

type profileRow struct {
	Count, Traced     int
	Total, Mean, Name string
}

// Group sums up programs that have something in common.
type Group struct {
	Name          string
	Count, Traced int
	Ended         int
	Total         time.Duration // lifetime of those that have ended
}

// Groups are groups of programs, by name.
type Groups map[string]*Group

// Add counts a program in the group of that name.
func (gs Groups) Add(name string, p *event.Program) {
	g := gs[name]
	if g == nil {
		g = &Group{Name: name}
		gs[name] = g
	}
	g.Count++
	if p.Culprit.Traced {
		g.Traced++
	}
	if p.Event.End != nil {
		g.Ended++
		g.Total += time.Duration(p.Event.Duration)
	}
}

// Sorted returns the groups, the most frequent first.
func (gs Groups) Sorted() []*Group {
	return slices.SortedFunc(maps.Values(gs), func(a, b *Group) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Name, b.Name))
	})
}

// profiles counts programs by executable and by parent, the most frequent first.
func (x *index) profiles() []profile {
	if len(x.Programs) == 0 {
		return nil
	}
	return []profile{
		x.profile("Executable", func(p *event.Process) string { return cmp.Or(p.Executable, "not known") }),
		x.profile("Parent", func(p *event.Process) string {
			if p.Parent == nil {
				return "not known"
			}
			return command(p.Parent)
		}),
	}
}

func (x *index) profile(by string, name func(*event.Process) string) profile {
	groups := Groups{}
	for i := range x.Programs {
		p := &x.Programs[i]
		groups.Add(name(&p.Process), p)
	}
	sorted := groups.Sorted()
	f := profile{By: by}
	if more := len(sorted) - maxRows; more > 0 {
		f.More = fmt.Sprintf("and %s", text.Plural(more, "other"))
		sorted = sorted[:maxRows]
	}
	for _, g := range sorted {
		r := profileRow{g.Count, g.Traced, "-", "-", clip(g.Name, maxCommand)}
		if g.Ended > 0 {
			r.Total, r.Mean = words.Length(g.Total), words.Length(g.Total/time.Duration(g.Ended))
		}
		f.Rows = append(f.Rows, r)
	}
	return f
}
