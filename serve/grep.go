package serve

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"culprit/evidence/catalogue"
	"culprit/evidence/view"
	"culprit/internal/event"
	"culprit/internal/text"
)

// Bounds of a search in all traces of a capture. Then there is a link to go on.
const (
	grepLines    = 200
	grepPatience = 4 * time.Second
)

// grepPage is what a search in all traces of a capture has found.
type grepPage struct {
	Capture string
	Search  search
	Traces  []grepRow
	Said    string
	On      string // where it goes on; "": all was searched
}

// grepRow is a trace with lines that match.
type grepRow struct {
	Process string
	Link    string
	Lines   []traceLineView
}

// grepAddress is where a search in all traces of a capture is shown.
func grepAddress(capture string, s search, from grepMark) string {
	q := url.Values{}
	s.set(q)
	if from.trace != "" {
		q.Set("from", from.String())
	}
	return "/captures/" + url.PathEscape(capture) + "/grep?" + q.Encode()
}

// grepMark is the line of a trace where a search begins; the zero grepMark is the begin of the first trace.
type grepMark struct {
	trace string
	line  int64
}

func (m grepMark) String() string { return m.trace + ":" + strconv.FormatInt(m.line, 10) }

func parseGrepMark(s string) (m grepMark, err error) {
	if s == "" {
		return m, nil
	}
	id, line, _ := strings.Cut(s, ":")
	if m.line, err = strconv.ParseInt(line, 10, 64); err != nil || id == "" || m.line < 1 {
		return m, wrong(http.StatusBadRequest, "from is not a line of a trace")
	}
	m.trace = strings.ToUpper(id)
	return m, nil
}

// grep searches all traces of a capture, the oldest first.
func (s *Server) grep(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	page, err := s.grepCapture(r.Context(), r.PathValue("id"), q)
	if err != nil {
		s.send(w, nil, err)
		return
	}
	s.page(w, r, "grep.html", func(*catalogue.Reader) (string, any, error) { return "Search in all traces of a capture", page, nil })
}

func (s *Server) grepCapture(ctx context.Context, id string, q url.Values) (*grepPage, error) {
	what, err := searchOf(q)
	if err != nil {
		return nil, err
	}
	mark, err := parseGrepMark(q.Get("from"))
	if err != nil {
		return nil, err
	}
	var traces []event.Trace
	page := &grepPage{Search: what}
	_, err = s.make(ctx, func(reader *catalogue.Reader) ([]byte, error) {
		c, err := find(reader, id, aCapture())
		if err != nil {
			return nil, err
		}
		page.Capture = c.Event.ID
		traces, err = catalogue.All(reader.Traces(catalogue.Filter{Capture: c.Event.ID, NoProofs: true}))
		return nil, err
	})
	if err != nil || what.pattern == nil {
		return page, err
	}
	for len(traces) > 0 && traces[0].Event.ID < mark.trace {
		traces = traces[1:]
	}
	ctx, cancel := context.WithTimeout(ctx, pageTimeout)
	defer cancel()
	select {
	case s.readers <- struct{}{}:
		defer func() { <-s.readers }()
	case <-ctx.Done():
		return nil, tooManyReaders()
	}
	return page, page.search(ctx, s.traces, traces, mark)
}

func (p *grepPage) search(ctx context.Context, indexes *view.Indexes, traces []event.Trace, mark grepMark) error {
	patience, cancel := context.WithTimeout(ctx, grepPatience)
	defer cancel()
	shown, gone, damaged := 0, 0, 0
	for i := range traces {
		t := &traces[i]
		q := view.Query{From: 1, Most: grepLines - shown, Pattern: p.Search.pattern}
		if t.Event.ID == mark.trace {
			q.From = mark.line
		}
		if patience.Err() != nil || q.Most == 0 {
			p.On = grepAddress(p.Capture, p.Search, grepMark{t.Event.ID, q.From})
			break
		}
		found, err := grepTrace(ctx, patience, indexes, t.File.Path, q)
		switch {
		case ctx.Err() != nil:
			return tooLong()
		case errors.Is(err, fs.ErrNotExist):
			gone++
			continue
		case err != nil:
			damaged++
			continue
		}
		for _, l := range found.Lines {
			p.add(t, l)
		}
		if shown += len(found.Lines); len(found.Lines) == q.Most {
			found.On = found.Lines[q.Most-1].Number + 1
		}
		if found.On > 0 {
			p.On = grepAddress(p.Capture, p.Search, grepMark{t.Event.ID, found.On})
			break
		}
	}
	p.Said = text.Plural(shown, "line") + " found"
	switch {
	case p.On == "":
		p.Said += fmt.Sprintf(" in %s", text.Plural(len(traces), "trace"))
	case shown < grepLines:
		p.Said += fmt.Sprintf(" in %s", grepPatience)
	}
	if gone > 0 {
		p.Said += fmt.Sprintf("; not searched: %s whose files were removed", text.Plural(gone, "trace"))
	}
	if damaged > 0 {
		p.Said += fmt.Sprintf("; %s could not be read", text.Plural(damaged, "trace"))
	}
	return nil
}

// grepTrace searches one trace. Only to begin in its middle it needs an index.
func grepTrace(ctx, patience context.Context, indexes *view.Indexes, name string, q view.Query) (view.Found, error) {
	var t *view.Trace
	var err error
	if q.From > 1 {
		t, err = indexes.Open(ctx, ctx, name)
	} else {
		t, err = view.Open(name)
	}
	if err != nil {
		return view.Found{}, err
	}
	defer t.Close()
	return t.Lines(ctx, patience, q)
}

// add shows a line.
func (p *grepPage) add(t *event.Trace, l view.Line) {
	n := len(p.Traces)
	link := place{trace: t.Event.ID, search: p.Search}
	if n == 0 || p.Traces[n-1].Link != link.address() {
		p.Traces = append(p.Traces, grepRow{Process: clip(t.Process.String()), Link: link.address()})
		n++
	}
	views := lineViews{place: link, several: true, lookBack: t.Culprit.LookBack != nil}
	row := &p.Traces[n-1]
	row.Lines = append(row.Lines, views.line(l, false))
}
