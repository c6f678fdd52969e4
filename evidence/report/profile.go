package report

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"culprit/internal/event"
	"culprit/internal/text"
)

// profile says what programs lived, by what they have in common.
type profile struct {
	By   string
	Rows []profileRow
	More string // what is left out, or ""
}

type profileRow struct {
	Count, Traced     int
	Total, Mean, Name string
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
	type group struct {
		name                 string
		count, traced, ended int
		total                time.Duration
	}
	groups := map[string]*group{}
	for i := range x.Programs {
		p := &x.Programs[i]
		k := name(&p.Process)
		g := groups[k]
		if g == nil {
			g = &group{name: k}
			groups[k] = g
		}
		g.count++
		if p.Culprit.Traced {
			g.traced++
		}
		if p.Event.End != nil {
			g.ended++
			g.total += time.Duration(p.Event.Duration)
		}
	}
	sorted := slices.SortedFunc(maps.Values(groups), func(a, b *group) int {
		return cmp.Or(cmp.Compare(b.count, a.count), cmp.Compare(a.name, b.name))
	})
	f := profile{By: by}
	if more := len(sorted) - maxRows; more > 0 {
		f.More = fmt.Sprintf("and %s", text.Plural(more, "other"))
		sorted = sorted[:maxRows]
	}
	for _, g := range sorted {
		r := profileRow{g.count, g.traced, "-", "-", clip(g.name, maxCommand)}
		if g.ended > 0 {
			r.Total, r.Mean = length(g.total), length(g.total/time.Duration(g.ended))
		}
		f.Rows = append(f.Rows, r)
	}
	return f
}
