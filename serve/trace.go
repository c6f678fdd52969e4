package serve

import (
	"context"
	"net/http"
	"strings"
	"time"

	"culprit/evidence/catalogue"
	"culprit/evidence/view"
	"culprit/internal/event"
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
