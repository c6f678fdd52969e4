package report

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"culprit/internal/event"
	"culprit/internal/text"
	"culprit/internal/words"
)

// Sizes of the timeline in pixels. It is as wide as the page: positions along the time axis are in
// percent, so that letters keep their size on a small screen.
const (
	axisHeight  = 24
	marksHeight = 26
	labelHeight = 17
	barHeight   = 9
	laneHeight  = 11
	bandGap     = 8

	maxSingle  = 24 // processes that each have a band
	maxBands   = 10 // for kinds of processes, if there are more
	maxLanes   = 3
	maxGuides  = 20
	resolution = 1000 // places along the axis
	minBar     = 4    // places of the shortest bar
)

// timeline is a picture of a capture.
type timeline struct {
	From, Span string
	Height     int
	Ticks      []tick
	Hits       []mark
	Guides     bool   // lines from packets down to processes, if there are few
	Followed   []mark // what came of packets: answers, and connections to what they say
	Losses     []mark
	Raises     []raise
	Bands      []band
	Notes      []string
}

type tick struct{ X, Label string }

type mark struct{ X, Class, Title string }

// raise is a moment when the capture was intensified.
type raise struct {
	X, Title string
	Level    int
}

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

// scale turns moments into places.
type scale struct{ from, to time.Time }

func (s scale) place(t time.Time) int {
	f := float64(t.Sub(s.from)) / float64(s.to.Sub(s.from))
	return int(min(max(f, 0), 1) * resolution)
}

func percent(place int) string {
	return strconv.FormatFloat(float64(place)/resolution*100, 'f', 1, 64) + "%"
}

// timeline draws the time in which something happened. A capture often ends with a long wait for
// nothing.
func (x *index) timeline(lives []*life) timeline {
	s := x.scale(lives)
	t := timeline{From: text.Time(s.from), Span: words.Length(s.to.Sub(s.from))}
	t.ticks(s)
	t.hits(x, s)
	t.followed(x, s)
	for _, l := range x.Losses {
		t.Losses = append(t.Losses, mark{X: percent(s.place(l.Timestamp)), Title: clock(l.Timestamp) + " lost: " + lost(&l)})
		if len(t.Losses) == maxRows {
			break // another section shows all
		}
	}
	for _, r := range x.Capture.Culprit.Raised {
		t.Raises = append(t.Raises, raise{percent(s.place(r.Timestamp)), fmt.Sprintf("%s level %d", clock(r.Timestamp), r.Level), r.Level})
	}
	t.Height = axisHeight + marksHeight + bandGap
	if len(lives) <= maxSingle {
		for _, l := range lives {
			t.band(clip(command(l.process), maxLabel)+fmt.Sprintf(" (%d)", l.process.PID), s, []*life{l})
		}
	} else {
		t.kinds(s, lives)
	}
	if end := x.Capture.Event.End; end != nil && end.After(s.to) {
		t.Notes = append(t.Notes, fmt.Sprintf("Nothing more was seen until the capture ended at %s.", clock(*end)))
	}
	return t
}

// scale spans the time from the first packet or the start of the capture to the last thing that
// happened.
func (x *index) scale(lives []*life) scale {
	s := scale{x.Capture.Timestamp, x.Capture.Timestamp}
	reach := func(t time.Time) {
		if t.After(s.to) {
			s.to = t
		}
	}
	for i := range x.Hits {
		t := x.Hits[i].Timestamp
		if t.Before(s.from) {
			s.from = t
		}
		reach(t)
		if a := x.Hits[i].Culprit.Answer; a != nil {
			reach(a.Timestamp)
			for _, c := range a.Connections {
				reach(c.Timestamp)
			}
		}
	}
	for _, l := range lives {
		reach(l.start)
		reach(l.end)
		if p := l.proof; p > 0 {
			if t := x.proofs[p-1].Timestamp; t.Before(s.from) {
				s.from = t
			}
		}
	}
	// The first processes started a little before the first packet.
	before := max(s.to.Sub(s.from)/10, 10*time.Millisecond)
	for _, l := range lives {
		if l.start.Before(s.from) && s.from.Sub(l.start) < before {
			s.from = l.start
		}
	}
	pad := max(s.to.Sub(s.from)/40, time.Millisecond)
	return scale{s.from.Add(-pad), s.to.Add(pad)}
}

// ticks puts some round moments on the axis, counted from its beginning.
func (t *timeline) ticks(s scale) {
	span, step := s.to.Sub(s.from), time.Millisecond
	for i := 0; step < span/5; i++ {
		switch {
		case step == 50*time.Second:
			step = time.Minute
		case step < time.Minute: // 1, 2, 5, 10, 20, …
			step = step * []time.Duration{2, 5, 10}[i%3] / []time.Duration{1, 2, 5}[i%3]
		default:
			step *= 2
		}
	}
	for n := range (span - 1) / step {
		at := (n + 1) * step
		t.Ticks = append(t.Ticks, tick{percent(s.place(s.from.Add(at))), "+" + short(at)})
	}
}

// hits marks packets. Those at the same place share a mark, of the surest.
func (t *timeline) hits(x *index, s scale) {
	type group struct {
		first   *event.Hit
		packets int
		sure    sure
	}
	places := map[int]*group{}
	for i := range x.Hits {
		h := &x.Hits[i]
		p := s.place(h.Timestamp) / minBar * minBar
		g := places[p]
		if g == nil {
			g = &group{first: h}
			places[p] = g
		}
		g.packets++
		g.sure = max(g.sure, x.sure(h))
	}
	for _, p := range slices.Sorted(maps.Keys(places)) {
		g := places[p]
		title := fmt.Sprintf("%s %s (%s)", clock(g.first.Timestamp), clip(g.first.Asks(), maxLabel), g.sure)
		if g.packets > 1 {
			title += fmt.Sprintf(" and %s", text.Plural(g.packets-1, "more packet"))
		}
		t.Hits = append(t.Hits, mark{percent(p), g.sure.String(), title})
	}
	t.Guides = len(t.Hits) <= maxGuides
}

// followed marks answers, and connections to what they say: at each place the first of each kind.
func (t *timeline) followed(x *index, s scale) {
	type place struct {
		at    int
		class string
	}
	taken := map[place]bool{}
	put := func(at time.Time, class, title string) {
		p := place{s.place(at) / minBar * minBar, class}
		if !taken[p] {
			taken[p] = true
			t.Followed = append(t.Followed, mark{percent(p.at), class, clock(at) + " " + title})
		}
	}
	for i := range x.Hits {
		h := &x.Hits[i]
		a := h.Culprit.Answer
		if a == nil {
			continue
		}
		put(a.Timestamp, "answer", "was told "+clip(words.Told(h), maxLabel))
		for _, c := range words.Connections(a) {
			put(c.Timestamp, "connection", clip(words.Connection(&c), maxLabel))
		}
	}
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
