package serve

import (
	"html/template"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"culprit/evidence/catalogue"
	"culprit/evidence/dossier"
	"culprit/evidence/dossier/report"
	"culprit/evidence/tracefile"
	"culprit/internal/event"
	"culprit/internal/text"
	"culprit/internal/words"
)

// Rows of the other tables.
const (
	maxCaptures = 100
	maxLosses   = 1000
	maxTraces   = 500
)

// captureRow is a capture in a table. All its text is escaped.
type captureRow struct {
	ID, Time, User, Rule, State, Why string
	Host                             string
	Level, Hits, Traces              int
	Running                          bool
}

func captureRowOf(c *event.Capture) captureRow {
	d := &c.Culprit
	r := captureRow{
		ID: c.Event.ID, Time: text.Time(c.Timestamp), User: clip(c.User.String()), State: clip(d.State), Level: d.Level, Hits: d.Hits,
		Traces: d.Traces, Running: d.State == event.StateRunning || d.State == event.StateDraining,
	}
	if c.Host != nil {
		r.Host = clip(c.Host.Name)
	}
	if c.Rule != nil {
		r.Rule = clip(c.Rule.Name)
	}
	if d.EndedBecause != nil {
		r.Why = clip(words.CaptureEnded(d.EndedBecause))
	}
	return r
}

// captures shows the captures, the newest first.
func (s *Server) captures(w http.ResponseWriter, r *http.Request) {
	s.page(w, r, "captures.html", func(reader *catalogue.Reader) (string, any, error) {
		f, err := filterOf(r.URL.Query(), time.Now())
		if err != nil {
			return "", nil, err
		}
		f.Name, f.List, f.Last = "", "", maxCaptures+1 // only hits have these
		captures, err := catalogue.All(reader.Captures(f))
		slices.Reverse(captures)
		more := len(captures) > maxCaptures
		var rows []captureRow
		for i := range captures[:min(len(captures), maxCaptures)] {
			rows = append(rows, captureRowOf(&captures[i]))
		}
		page := struct {
			Rows  []captureRow
			Older template.URL
			Fleet bool
		}{Rows: rows, Fleet: len(rows) > 0 && rows[0].Host != ""}
		if more {
			page.Older = query(r.URL.Query(), "before", rows[len(rows)-1].ID)
		}
		return "Captures", page, err
	})
}

// traceRow is a trace in a table. All its text is escaped.
type traceRow struct {
	ID, Time, Process, State, Size string
	Proofs                         int
	Gone                           bool
	Elsewhere                      bool // on its host
}

// capture shows a capture: its traces, and its report.
func (s *Server) capture(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	if id, ok := strings.CutSuffix(id, ".pcapng"); ok {
		s.capturePackets(w, r, id)
		return
	}
	if id, ok := strings.CutSuffix(id, ".tar.zst"); ok {
		s.bundle(w, r, id)
		return
	}
	s.page(w, r, "capture.html", func(reader *catalogue.Reader) (string, any, error) {
		c, err := find(reader, id, aCapture())
		if err != nil {
			return "", nil, err
		}
		rc, err := dossier.Case(reader, *c)
		if err != nil {
			return "", nil, err
		}
		body, err := report.Body(rc, traceLine)
		page := struct {
			Row    captureRow
			Traces []traceRow
			More   int
			Fetch  string // what to type for the traces that are on another host
			Report template.HTML
		}{Row: captureRowOf(c), Report: body}
		for i := range rc.Traces[:min(len(rc.Traces), maxTraces)] {
			t := traceRowOf(&rc.Traces[i])
			if t.Elsewhere {
				page.Fetch = "culprit fleet fetch " + c.Event.ID
			}
			page.Traces = append(page.Traces, t)
		}
		page.More = len(rc.Traces) - len(page.Traces) + rc.TracesLeftOut
		return "Capture of " + c.User.String(), page, err
	})
}

func traceRowOf(t *event.Trace) traceRow {
	r := traceRow{
		ID: t.Event.ID, Time: text.Time(t.Timestamp), Process: clip(t.Process.String()), State: clip(words.TraceState(t)),
		Size: text.Size(t.File.Size), Proofs: len(t.Culprit.Proofs),
	}
	if why := t.Culprit.Removed; why != nil {
		r.Gone, r.State = true, clip("removed: "+words.Removed(*why))
	}
	r.Elsewhere = t.Host != nil && !tracefile.Exists(t.File.Path)
	return r
}

// losses shows what was lost, the newest first.
func (s *Server) losses(w http.ResponseWriter, r *http.Request) {
	s.page(w, r, "losses.html", func(reader *catalogue.Reader) (string, any, error) {
		f, err := filterOf(r.URL.Query(), time.Now())
		if err != nil {
			return "", nil, err
		}
		losses, err := catalogue.All(reader.Losses(catalogue.Filter{Since: f.Since, Host: f.Host, Last: maxLosses}))
		var rows [][3]string
		for _, l := range slices.Backward(losses) {
			what := clip(words.Loss(l.Culprit))
			if l.Host != nil {
				what = clip(l.Host.Name) + ": " + what
			}
			rows = append(rows, [3]string{text.Time(l.Timestamp), strconv.FormatUint(l.Culprit.Count, 10), what})
		}
		return "Losses", struct {
			Rows [][3]string
			Full bool
		}{rows, len(rows) == maxLosses}, err
	})
}
