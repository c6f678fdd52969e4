package serve

import (
	"context"
	"fmt"
	"math"
	"strconv"

	"culprit/evidence/view"
	"culprit/internal/strace"
	"culprit/internal/text"
)

// goOn looks for the next match of a search in one direction.
func (p *tracePage) goOn(ctx context.Context, tr *view.Trace) (elsewhere string, err error) {
	q := view.Query{From: max(p.line, 1), Most: 1, TID: p.thread, Pattern: p.search.pattern, Back: p.step == stepPrevious}
	if p.step == stepNext {
		q.From = p.line + 1
	}
	what := "match"
	if q.Pattern == nil {
		what = "line of the thread"
	}
	patience, done := context.WithTimeout(ctx, findPatience)
	defer done()
	found, err := tr.Lines(ctx, patience, q)
	if err != nil {
		return "", err
	}
	if len(found.Lines) > 0 {
		return p.at(found.Lines[0].Number).address(), nil
	}
	side := "from line " + strconv.FormatInt(q.From, 10) + " on"
	if q.Back {
		side = "before line " + strconv.FormatInt(q.From, 10)
	}
	switch {
	case found.On == 0:
		p.Said = fmt.Sprintf("No %s %s.", what, side)
	case q.Back:
		p.Said = fmt.Sprintf("No %s %s until line %d, after %s.", what, side, found.On, findPatience)
		p.On = p.going(stepPrevious, found.On).address()
	default:
		p.Said = fmt.Sprintf("No %s %s until line %d, after %s.", what, side, found.On-1, findPatience)
		p.On = p.going(stepHere, found.On).address()
	}
	return "", nil
}

// window reads the lines that the page shows.
func (p *tracePage) window(ctx context.Context, tr *view.Trace) error {
	patience, done := context.WithTimeout(ctx, findPatience)
	defer done()
	last := tr.Index.Lines()
	look := func(from int64, back bool, most int) (found view.Found, all bool, err error) {
		found, err = tr.Lines(ctx, patience, view.Query{From: from, Back: back, Most: most, TID: p.thread})
		return found, found.On == 0 && len(found.Lines) < most, err
	}
	var before, after view.Found
	var all bool
	var err error
	first, end := int64(1), last+1 // where the lines before these end, and those after these begin
	switch {
	case p.before > 0:
		end = min(p.before, end)
		if before, all, err = look(end, true, linesPerPage); !all {
			first = end
		}
	case p.from > 0:
		first = min(p.from, end)
		if after, all, err = look(first, false, linesPerPage); !all {
			end = first
		}
	default:
		at := max(1, min(p.line, last))
		if before, all, err = look(at, true, linesBefore); !all {
			first = at
		}
		if err == nil {
			if after, all, err = look(at, false, linesPerPage-len(before.Lines)); !all {
				end = at
			}
		}
	}
	if err != nil {
		return err
	}
	p.found = append(before.Lines, after.Lines...)
	if n := len(p.found); n > 0 {
		if first > 1 {
			first = p.found[0].Number
		}
		if end <= last {
			end = p.found[n-1].Number + 1
		}
	}
	if before.On > 0 {
		first = before.On
	}
	if after.On > 0 {
		end = after.On
	}
	if (before.On > 0 || after.On > 0) && p.Said == "" {
		p.Said = fmt.Sprintf("These are the lines that were found in %s: the next and previous lines go on.", findPatience)
	}
	p.turn(first, end, last)
	return p.header(ctx, tr)
}

// header finds the line at the begin of the trace that is what the kernel saw, not strace's.
func (p *tracePage) header(ctx context.Context, tr *view.Trace) error {
	if len(p.found) == 0 || p.found[0].Number > headerLines {
		return nil
	}
	begin, err := tr.Lines(ctx, ctx, view.Query{From: 1, Most: headerLines})
	for _, l := range begin.Lines {
		if strace.AnnouncesSent(l.Text) {
			p.sent = l.Number + 1
		}
	}
	return err
}

// turn makes the links to the lines before first and from end on, and to those of other views.
func (p *tracePage) turn(first, end, last int64) {
	if n := len(p.found); n > 0 {
		p.Range = fmt.Sprintf("lines %d to %d of %d", p.found[0].Number, p.found[n-1].Number, last)
		if p.thread != 0 {
			p.Range = fmt.Sprintf("%s of thread %d, %s", text.Plural(n, "line"), p.thread, p.Range)
		}
	} else {
		p.Range = fmt.Sprintf("no lines here, of %d", last)
	}
	if first > 1 {
		p.First, p.Previous = p.startingAt(1).address(), p.endingBefore(first).address()
	}
	if end <= last {
		p.Next, p.Last = p.startingAt(end).address(), p.endingBefore(math.MaxInt64).address()
	}
	p.Line = p.line
	if p.Line == 0 || p.from > 0 || p.before > 0 {
		p.Line = max(1, first)
	}
	if p.search.Text != "" {
		p.PreviousMatch, p.NextMatch = p.going(stepPrevious, p.Line).address(), p.going(stepNext, p.Line).address()
		if p.line == 0 {
			p.NextMatch = p.going(stepHere, p.Line).address()
		}
		without := p.at(p.Line)
		without.search = search{}
		p.Unsearched = without.address()
		p.All = grepAddress(p.of.Culprit.Capture.ID, p.search, grepMark{})
	}
	if p.thread != 0 {
		without := p.at(p.Line)
		without.thread = 0
		p.EveryThread = without.address()
	}
}
