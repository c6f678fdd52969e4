package serve

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"culprit/evidence/catalogue"
	"culprit/evidence/view"
	"culprit/internal/event"
	"culprit/internal/strace"
	"culprit/internal/text"
	"culprit/internal/words"
)

// Bounds of the pages of traces.
const (
	linesBefore   = 50  // before the line that a page is about
	linesPerPage  = 200 // in all
	shownThreads  = 100
	headerLines   = 200 // in which that of a trace ends
	keptIndexes   = 16
	maxReading    = 2               // traces that are read at once; others wait
	indexPatience = 4 * time.Second // to make an index
	findPatience  = 2 * time.Second // to search; then there is a link to go on
)

// trace shows the lines of a trace, or sends it.
func (s *Server) trace(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	if id, ok := strings.CutSuffix(id, ".strace"); ok {
		s.traceFile(w, r, id)
		return
	}
	p, err := placeOf(id, r.URL.Query())
	if err != nil {
		s.send(w, nil, err)
		return
	}
	page, elsewhere, err := s.readTrace(r.Context(), p)
	switch {
	case err != nil:
		s.send(w, nil, err)
	case elsewhere != "":
		http.Redirect(w, r, elsewhere, http.StatusSeeOther)
	default:
		s.page(w, r, "trace.html", page.prove)
	}
}

// tracePage is the page of a trace. It is made in two steps, as nobody may wait for the catalogue while a trace is read.
type tracePage struct {
	place
	ID      string
	Capture string // its page
	Process string
	Facts   []fact
	Notes   []string
	Range   string // which lines there are, in words
	Said    string // what became of a search
	On      string // where it goes on
	Line    int64  // the one that the forms start from
	Lines   []traceLineView

	First, Previous, Next, Last  string // windows
	PreviousMatch, NextMatch     string
	PreviousProof, NextProof     string
	EveryThread, Unsearched, All string // without the thread, without the search, the search in all traces
	Threads                      []threadRow
	MoreThreads                  string

	of    *event.Trace
	found []view.Line
	sent  int64 // the number of the line that is what the kernel saw; 0: none is known
}

// threadRow is a thread of a trace. All its text is escaped.
type threadRow struct {
	TID       int
	Name      string
	First     int64
	FirstLink string
	Lines     int64
	Link      string
	This      bool
}

// Search is what the form of the page shows.
func (p *tracePage) Search() search { return p.search }

// Thread is the thread whose lines are shown, 0: all.
func (p *tracePage) Thread() int { return p.thread }

// readTrace reads what the page shows of a file. With elsewhere the page is there: a search has found it.
func (s *Server) readTrace(ctx context.Context, p place) (page *tracePage, elsewhere string, err error) {
	t, err := s.traceOf(ctx, p.trace)
	if err != nil {
		return nil, "", err
	}
	p.trace = t.Event.ID
	err = s.reading(ctx, t.File.Path, func(ctx context.Context, tr *view.Trace) error {
		page = &tracePage{place: p, ID: t.Event.ID, Capture: "/captures/" + t.Culprit.Capture.ID, Process: clip(t.Process.String()), of: t}
		page.describe(tr)
		if p.step != "" {
			if elsewhere, err = page.goOn(ctx, tr); err != nil || elsewhere != "" {
				return err
			}
		}
		return page.window(ctx, tr)
	})
	return page, elsewhere, err
}

// reading opens a trace, and bounds how many are read at once and for how long.
func (s *Server) reading(ctx context.Context, name string, read func(context.Context, *view.Trace) error) error {
	ctx, cancel := context.WithTimeout(ctx, pageTimeout)
	defer cancel()
	late := func(err error) error {
		if ctx.Err() != nil {
			return tooLong()
		}
		return err
	}
	select {
	case s.readers <- struct{}{}:
		defer func() { <-s.readers }()
	case <-ctx.Done():
		return tooManyReaders()
	}
	patience, done := context.WithTimeout(ctx, indexPatience)
	defer done()
	tr, err := s.traces.Open(ctx, patience, name)
	if err != nil {
		return s.noTrace(ctx, late(err), name)
	}
	defer tr.Close()
	if err := read(ctx, tr); err != nil {
		return late(err)
	}
	return nil
}

func tooLong() error {
	return wrong(http.StatusServiceUnavailable, "reading takes longer than %s: try again, search for plain text, or download the trace", pageTimeout)
}

func tooManyReaders() error {
	return wrong(http.StatusServiceUnavailable, "too many traces are being read: try again")
}

// describe says what the trace is.
func (p *tracePage) describe(tr *view.Trace) {
	t, d := p.of, &p.of.Culprit
	add := func(key, link, format string, args ...any) {
		p.Facts = append(p.Facts, fact{key, clip(fmt.Sprintf(format, args...)), link})
	}
	lines := text.Plural(tr.Index.Lines(), "line")
	if !tr.All {
		lines = "more than " + lines
		p.Notes = append(p.Notes, "The trace is so long that not all of it was read in time: load the page again for the rest.")
	}
	add("User", link(map[string][]string{"user": {t.User.ID}}), "%s", &t.User)
	add("Began", "", "%s, %s", text.Time(t.Timestamp), d.Life())
	add("State", "", "%s", words.TraceState(t))
	add("Text", "", "%s, %s", lines, text.Size(tr.Index.End.Text))
	add("Capture", p.Capture, "%s", d.Capture.ID)
	if d.Lost > 0 {
		add("Missing", "", "%s of strace's output were not kept", text.Size(d.Lost))
	}
	if d.LookBack != nil {
		p.Notes = append(p.Notes, "This is a look-back, not a trace by strace: culprit kept these system calls in memory before the packet.")
		for _, line := range words.LookBack(d.LookBack) {
			p.Notes = append(p.Notes, clip(line))
		}
	}
	if t.Culprit.State == event.StateRunning {
		p.Notes = append(p.Notes, "The trace is still being written: load the page again for what has come since.")
	}
	for _, th := range tr.Index.Threads[:min(len(tr.Index.Threads), shownThreads)] {
		one := p.place
		one.thread = th.TID
		one = one.at(0)
		row := threadRow{TID: th.TID, Name: clip(th.Name), First: th.First, Lines: th.Lines, Link: one.address(), FirstLink: one.at(th.First).address(), This: th.TID == p.thread}
		if row.Name == "" && th.TID == t.Process.PID {
			row.Name = clip(t.Process.Name)
		}
		p.Threads = append(p.Threads, row)
	}
	if n := len(tr.Index.Threads) - len(p.Threads); n > 0 || tr.Index.Unlisted > 0 {
		p.MoreThreads = fmt.Sprintf("%s more are left out here", text.Plural(n, "thread"))
		if tr.Index.Unlisted > 0 {
			p.MoreThreads += fmt.Sprintf(", and those of %s", text.Plural(tr.Index.Unlisted, "line"))
		}
	}
}

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

// prove adds what the catalogue knows of the lines, and shows them.
func (p *tracePage) prove(r *catalogue.Reader) (title string, data any, err error) {
	views := lineViews{place: p.place, lookBack: p.of.Culprit.LookBack != nil}
	if n := len(p.found); n > 0 {
		first, last := p.found[0].Number, p.found[n-1].Number
		proofs, err := r.ProofsAt(p.ID, first, last)
		if err != nil {
			return "", nil, err
		}
		views.proofs = proofTags(proofs)
		before, after, err := r.NearestProofs(p.ID, p.Line, max(p.Line, p.line))
		if err != nil {
			return "", nil, err
		}
		if before > 0 {
			p.PreviousProof = p.at(before).address()
		}
		if after > 0 {
			p.NextProof = p.at(after).address()
		}
	}
	for _, l := range p.found {
		p.Lines = append(p.Lines, views.line(l, l.Number == p.sent))
	}
	return "Trace of " + p.of.Process.String(), p, nil
}
