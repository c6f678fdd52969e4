package report

import (
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
