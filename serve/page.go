package serve

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"culprit/evidence/catalogue"
	"culprit/evidence/directory"
	"culprit/evidence/dossier/report"
	"culprit/internal/event"
	"culprit/internal/text"
)

// problem is an error that the reader of a page made, or can do something about.
type problem struct {
	status int
	error
}

func wrong(status int, format string, args ...any) error {
	return problem{status, fmt.Errorf(format, args...)}
}

// frame is what every page has.
type frame struct {
	Title  string
	Path   string
	Status status
	Body   any
}

// status tells "nothing found" from "nothing seen".
type status struct {
	Runs   bool
	Fleet  bool
	Daemon string
	Losses string // of the last day; "": none
}

// page makes a page by a template, and sends it when it is whole.
func (s *Server) page(w http.ResponseWriter, r *http.Request, name string, body func(*catalogue.Reader) (title string, data any, err error)) {
	b, err := s.make(r.Context(), func(reader *catalogue.Reader) ([]byte, error) {
		title, data, err := body(reader)
		if err != nil {
			return nil, err
		}
		now, err := s.status(reader)
		if err != nil {
			return nil, err
		}
		var b bytes.Buffer
		err = s.layout.ExecuteTemplate(&b, name, frame{text.Escape(title), r.URL.Path, now, data})
		return b.Bytes(), err
	})
	s.send(w, b, err)
}

// make makes something of the evidence, within bounds.
func (s *Server) make(ctx context.Context, of func(*catalogue.Reader) ([]byte, error)) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, pageTimeout)
	defer cancel()
	select {
	case s.making <- struct{}{}:
		defer func() { <-s.making }()
	case <-ctx.Done():
		return nil, wrong(http.StatusServiceUnavailable, "too many pages are being made: try again")
	}
	reader, err := catalogue.OpenReader(s.dir)
	if err != nil {
		return nil, problem{http.StatusServiceUnavailable, err}
	}
	defer reader.Close()
	b, err := of(reader.Within(ctx))
	if err != nil && ctx.Err() != nil {
		return nil, wrong(http.StatusServiceUnavailable, "this takes longer than %s: choose less, such as a shorter time (since)", pageTimeout)
	}
	return b, err
}

// send sends a page, or what went wrong.
func (s *Server) send(w http.ResponseWriter, page []byte, err error) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if err != nil {
		code := http.StatusInternalServerError
		var p problem
		if errors.As(err, &p) {
			code = p.status
		}
		w.WriteHeader(code)
		var b bytes.Buffer
		if s.layout.ExecuteTemplate(&b, "error.html", frame{Title: "culprit: " + http.StatusText(code), Body: text.Escape(err.Error())}) == nil {
			w.Write(b.Bytes())
		}
		return
	}
	w.Write(page)
}

func (s *Server) status(r *catalogue.Reader) (now status, err error) {
	if fleet, err := isFleet(r); err != nil || fleet {
		if err == nil {
			now, err = s.fleetStatus(r)
		}
		return now, err
	}
	switch pid, err := directory.Holder(s.dir); {
	case err != nil:
		now.Daemon = text.Escape("cannot tell whether culprit is running: " + err.Error())
	case pid == 0:
		now.Daemon = "culprit is not running: nothing is seen now"
	default:
		now.Runs, now.Daemon = true, fmt.Sprintf("culprit is running (PID %d)", pid)
	}
	now.Losses, err = lost(r)
	return now, err
}

// style is the style sheet of the report, and ours.
func (s *Server) style(w http.ResponseWriter, _ *http.Request) {
	own, err := web.ReadFile("web/style.css")
	if err != nil {
		s.send(w, nil, err)
		return
	}
	w.Header().Set("Content-Type", "text/css; charset=utf-8")
	w.Write([]byte(report.Style()))
	w.Write(own)
}

// find finds what the id in the address of a page names, and refuses what is of another kind.
func find[T any](r *catalogue.Reader, id string, k kind[T]) (*T, error) {
	found, err := r.Find(strings.ToUpper(id))
	if err != nil {
		return nil, problem{http.StatusNotFound, err}
	}
	one := k.of(found)
	if one == nil {
		return nil, wrong(http.StatusNotFound, "%s is not a %s", id, k.name)
	}
	return one, nil
}

// kind is what an address is about.
type kind[T any] struct {
	name string
	of   func(catalogue.Found) *T
}

func aHit() kind[event.Hit] {
	return kind[event.Hit]{"hit", func(f catalogue.Found) *event.Hit { return f.Hit }}
}

func aCapture() kind[event.Capture] {
	return kind[event.Capture]{"capture", func(f catalogue.Found) *event.Capture { return f.Capture }}
}

func aTrace() kind[event.Trace] {
	return kind[event.Trace]{"trace", func(f catalogue.Found) *event.Trace { return f.Trace }}
}
