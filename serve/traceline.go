package serve

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"culprit/evidence/view"
	"culprit/internal/event"
	"culprit/internal/strace"
	"culprit/internal/text"
)

// Bounds of what is shown of a line, in bytes. The rest is on a page of its own.
const (
	lineShown   = 1000
	lineShownAt = 4000 // of the line that a page is about
	lineMarks   = 50   // matches of the search that are marked in a line
)

// traceLineView is a line of a trace on its page. All its text is escaped.
type traceLineView struct {
	Number int64
	ID     string // in the page; "": none
	Link   string
	Here   bool // the page is about this line
	Class  string
	Pieces []piece
	Tags   []tag
	Rest   string // what is not shown; "": nothing
	RestAt string
}

// piece is a part of a line.
type piece struct {
	Text string
	Link string // "": none
	Mark bool   // the search matches it
}

// tag says what a line is, besides one of strace's.
type tag struct{ Text, Link, Class string }

// lineViews shows lines of a trace.
type lineViews struct {
	place
	several  bool // lines of several traces are on the page, and all of them match
	lookBack bool
	proofs   map[int64][]tag // by line
}

// line shows a line; sent says that it is not strace's, but what the kernel saw.
func (v *lineViews) line(l view.Line, sent bool) traceLineView {
	here := l.Number == v.place.line
	line := traceLineView{Number: l.Number, Link: v.at(l.Number).address(), Here: here, Tags: v.proofs[l.Number]}
	if len(line.Tags) > 0 {
		line.Class = "is"
	}
	most := lineShown
	if here {
		most = lineShownAt
	}
	shown := cut(l.Text, most)
	switch {
	case strace.IsComment(l.Text):
		line.Class = strings.TrimSpace(line.Class + " ours")
		line.Tags = append(line.Tags, tag{Text: "written by culprit"})
	case sent:
		line.Class = strings.TrimSpace(line.Class + " ours")
		line.Tags = append(line.Tags, tag{Text: "seen by the kernel, not by strace"})
	case v.lookBack:
		line.Class = strings.TrimSpace(line.Class + " ours")
		line.Tags = append(line.Tags, tag{Text: "look-back"})
	}
	marks := v.marks(l.Text)
	if !v.several {
		line.ID = "L" + strconv.FormatInt(l.Number, 10)
	}
	if len(marks) > 0 && !v.several {
		line.Tags = append(line.Tags, tag{Text: "match"})
	}
	line.Pieces = v.pieces(l.Number, shown, view.Links(l.Text), marks)
	if rest := l.Length - int64(len(shown)); rest > 0 {
		line.Rest = fmt.Sprintf("%s more", text.Size(rest))
		line.RestAt = pieceAddress(v.trace, l.Number, int64(len(shown)))
	}
	return line
}

func (v *lineViews) marks(line []byte) [][]int {
	if v.search.pattern == nil || strace.IsComment(line) {
		return nil
	}
	return v.search.pattern.Find(line, lineMarks)
}

// pieces cuts a line where a link or a mark begins or ends. A link that a mark touches is marked as a whole.
func (v *lineViews) pieces(number int64, line []byte, links []view.Link, marks [][]int) (all []piece) {
	at := 0
	plain := func(to int) {
		to = min(to, len(line))
		for at < to {
			for len(marks) > 0 && marks[0][1] <= at {
				marks = marks[1:]
			}
			p, end := piece{}, to
			if len(marks) > 0 {
				if from := marks[0][0]; from > at {
					end = min(end, from)
				} else {
					end, p.Mark = min(end, marks[0][1]), true
				}
			}
			p.Text = text.Escape(string(line[at:end]))
			all = append(all, p)
			at = end
		}
	}
	for _, l := range links {
		if l.To > len(line) {
			break
		}
		plain(l.From)
		p := piece{Text: text.Escape(string(line[l.From:l.To])), Link: v.link(l.Kind, string(line[l.From:l.To]), number)}
		for _, m := range marks {
			p.Mark = p.Mark || m[0] < l.To && m[1] > l.From
		}
		all = append(all, p)
		at = l.To
	}
	plain(len(line))
	return all
}

// link is where a part of a line leads: a thread to its lines, a name to all lines with it.
func (v *lineViews) link(kind view.Kind, name string, number int64) string {
	p := v.at(number)
	if kind != view.Thread {
		p.search, p.thread = search{Text: name}, 0
		return p.address()
	}
	tid, err := strconv.Atoi(name)
	if err != nil || tid == v.thread {
		return ""
	}
	p.thread = tid
	return p.address()
}

// proofTags are the hits of the proofs of lines.
func proofTags(proofs []event.Proof) map[int64][]tag {
	const most = 10 // of a line
	tags := map[int64][]tag{}
	add := func(line int64, what, hit string) {
		if len(tags[line]) < most {
			tags[line] = append(tags[line], tag{what + " of hit …" + hit[max(0, len(hit)-6):], "/hits/" + hit, "badge proven"})
		}
	}
	for i := range proofs {
		p := &proofs[i].Culprit
		what := "proof"
		switch {
		case p.Probable:
			what = "probable proof"
		case p.Kernel:
			what = "proof by the kernel"
		}
		for _, part := range p.Parts {
			add(part.Line, "part of the proof", p.Hit.ID)
		}
		add(p.Line, what, p.Hit.ID)
	}
	return tags
}

// cut returns the begin of a line, without a part of a character at its end.
func cut(line []byte, most int) []byte {
	if len(line) <= most {
		return line
	}
	for end := most; end > most-utf8.UTFMax; end-- {
		if utf8.RuneStart(line[end]) {
			return line[:end]
		}
	}
	return line[:most]
}

func pieceAddress(trace string, line, at int64) string {
	return fmt.Sprintf("/traces/%s/lines/%d?at=%d", strings.ToUpper(trace), line, at)
}
