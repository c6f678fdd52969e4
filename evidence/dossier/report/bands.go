package report

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"culprit/internal/text"
	"culprit/internal/words"
)

// band holds the bars of one process, or of all of a kind.
type band struct {
	Y     int
	Label string
	Class string
	Right bool // the bars begin in the right half: put the label there
	Bars  []bar
}

type bar struct {
	X, W     string
	Y        int
	Class, T string
}

// kinds gives a band to each kind of processes, which run the same program below the same parents.
// The last band is for the rest.
func (t *timeline) kinds(s scale, lives []*life) {
	type group struct {
		lives          []*life
		proven, traced int
	}
	byKind := map[string]*group{}
	for _, l := range lives {
		k := kind(l.process)
		g := byKind[k]
		if g == nil {
			g = &group{}
			byKind[k] = g
		}
		g.lives = append(g.lives, l)
		if l.proof > 0 {
			g.proven++
		}
		if l.traced {
			g.traced++
		}
	}
	groups := slices.SortedFunc(maps.Values(byKind), func(a, b *group) int {
		return cmp.Or(cmp.Compare(b.proven, a.proven), cmp.Compare(len(b.lives), len(a.lives)), a.lives[0].start.Compare(b.lives[0].start),
			cmp.Compare(a.lives[0].process.PID, b.lives[0].process.PID))
	})
	if len(groups) > maxBands {
		rest := &group{}
		for _, g := range groups[maxBands-1:] {
			rest.lives, rest.traced = append(rest.lives, g.lives...), rest.traced+g.traced
			rest.proven += g.proven
		}
		t.Notes = append(t.Notes, fmt.Sprintf("The last band holds %d kinds of programs.", len(groups)-maxBands+1))
		groups = append(groups[:maxBands-1], rest)
	}
	t.Notes = append(t.Notes, "Processes that run the same program below the same parents share a band.")
	hidden := 0
	for i, g := range groups {
		p := g.lives[0].process
		label := clip(cmp.Or(p.Executable, command(p)), maxLabel)
		if i == maxBands-1 && len(byKind) > maxBands {
			label = "other programs"
		} else if p.Parent != nil {
			label += " ‹ " + clip(command(p.Parent), maxLabel/2)
		}
		label = fmt.Sprintf("%d × %s", len(g.lives), label)
		slices.SortStableFunc(g.lives, func(a, b *life) int { return cmp.Compare(b.proof, a.proof) })
		hidden += t.band(label, s, g.lives)
	}
	if hidden > 0 {
		t.Notes = append(t.Notes, fmt.Sprintf("%s not drawn, because others lived at the same time.", text.Plural(hidden, "process")))
	}
}

// band draws each process into the first free lane. It returns how many had no room.
func (t *timeline) band(label string, s scale, lives []*life) (hidden int) {
	b := band{Y: t.Height, Label: label, Class: "untraced", Right: true}
	var taken [maxLanes][resolution + minBar + 2]bool
	lanes := 1
	for _, l := range lives {
		if b.Class == "untraced" || l.proof > 0 {
			b.Class = l.state()
		}
		from, to := s.place(l.start), resolution
		if !l.end.IsZero() {
			to = s.place(l.end)
		}
		b.Right = b.Right && from > resolution/2
		from = min(from, resolution-minBar)
		to = max(to, from+minBar)
		lane := slices.IndexFunc(taken[:], func(lane [resolution + minBar + 2]bool) bool { return !slices.Contains(lane[from:to+1], true) })
		if lane < 0 {
			hidden++
			continue
		}
		for i := from; i <= to; i++ {
			taken[lane][i] = true
		}
		lanes = max(lanes, lane+1)
		y := b.Y + labelHeight + lane*laneHeight
		title := fmt.Sprintf("%s (PID %d): %s, started %s", clip(command(l.process), maxLabel/2), l.process.PID, l.state(), clock(l.start))
		if !l.end.IsZero() {
			title += ", lived " + words.Length(l.end.Sub(l.start))
		}
		// The time before strace was on it stays pale.
		attached := from
		if l.trace != nil && !l.trace.Culprit.FromStart && !l.seen {
			attached = max(from, s.place(l.start.Add(time.Duration(l.trace.Culprit.AgeMS*float64(time.Millisecond)))))
		}
		if attached > from && attached < to {
			b.Bars = append(b.Bars, bar{percent(from), percent(attached - from), y, "untraced", title})
			from = attached
		}
		b.Bars = append(b.Bars, bar{percent(from), percent(to - from), y, l.state(), title})
	}
	t.Bands = append(t.Bands, b)
	t.Height += labelHeight + lanes*laneHeight + bandGap
	return hidden
}
