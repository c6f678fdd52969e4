package daemon

import (
	"context"
	"io"
	"log/slog"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"

	"culprit/internal/config"
	"culprit/internal/event"
	"culprit/internal/strace"
	"culprit/internal/words"
)

// keptEvidence takes documents and traces.
type keptEvidence interface {
	Hit(*event.Hit)
	Repeated(id string, count int)
	Capture(event.Capture)
	Trace(event.Trace)
	Program(event.Program)
	Lost(event.Loss)
	Create(*event.Trace) (io.WriteCloser, error)
}

// disk says whether it has room for another trace.
type disk interface{ Room() error }

// recorder takes everything that happens: it counts it, passes it on to the evidence, and logs
// hits and losses. It is the controller's [capture.Recorder].
type recorder struct {
	evidence keptEvidence
	disk     disk
	counts   *counts
	log      *slog.Logger
	limit    *rate.Limiter // of log lines about hits
	unlogged int           // hits since the last log line
	observed event.Capture
}

func newRecorder(e keptEvidence, d disk, counts *counts, log *slog.Logger, observed event.Capture) *recorder {
	const perSecond = 20
	return &recorder{evidence: e, disk: d, counts: counts, log: log, limit: rate.NewLimiter(perSecond, perSecond), observed: observed}
}

// observed is what each capture says about us and the machine: how it was obtained.
func observed(c *config.Config, version string, program strace.Program) event.Capture {
	s := event.Capture{Observer: &event.Observer{Product: "culprit", Version: version}, Host: new(event.Host)}
	s.Culprit.Strace = program.Version()
	text, _ := os.ReadFile(c.Path) // we read it a moment ago
	s.Culprit.Config = string(text)
	s.Host.Hostname, _ = os.Hostname()
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		s.Host.OS.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	return s
}

// Capture records a capture.
func (r *recorder) Capture(c event.Capture) {
	c.Observer, c.Host = r.observed.Observer, r.observed.Host
	c.Culprit.Strace, c.Culprit.Config = r.observed.Culprit.Strace, r.observed.Culprit.Config
	r.evidence.Capture(c)
}

// Program records a program.
func (r *recorder) Program(p event.Program) { r.evidence.Program(p) }

// Create creates the file of a trace.
func (r *recorder) Create(t *event.Trace) (io.WriteCloser, error) {
	f, err := r.evidence.Create(t)
	if err != nil {
		return nil, err
	}
	return r.counts.TraceFile(f), nil
}

// Trace records a new or changed trace.
func (r *recorder) Trace(t event.Trace) {
	if t.Culprit.State == event.StateEnded { // which comes only once
		r.counts.TraceDropped(t.Culprit.Lost)
	}
	r.evidence.Trace(t)
}

// Hit records and logs a hit. The controller calls it, on one goroutine.
func (r *recorder) Hit(hit *event.Hit) {
	r.counts.Hit(hit.Rule.Name, hit.Culprit.Origin.Grade)
	r.evidence.Hit(hit)
	if !r.limit.Allow() {
		r.unlogged++
		return
	}
	attrs := []any{
		slog.Group("event", "action", hit.Event.Action, "id", hit.Event.ID),
		slog.Group("rule", "name", hit.Rule.Name),
	}
	if hit.User != nil {
		attrs = append(attrs, slog.Group("user", "id", hit.User.ID, "name", hit.User.Name))
	}
	if hit.DNS != nil {
		attrs = append(attrs, slog.Group("dns", slog.Group("question", "name", hit.DNS.Question.Name, "type", hit.DNS.Question.Type)))
	}
	attrs = append(attrs,
		slog.Group("source", "ip", hit.Source.IP, "port", hit.Source.Port),
		slog.Group("destination", "ip", hit.Destination.IP, "port", hit.Destination.Port))
	if hit.Process != nil {
		attrs = append(attrs, slog.Group("process", "pid", hit.Process.PID, "command_line", hit.Process.CommandLine))
	}
	culprit := []any{slog.Group("origin", "grade", string(hit.Culprit.Origin.Grade))}
	if hit.Culprit.Capture != nil {
		culprit = append(culprit, "capture", hit.Culprit.Capture.ID)
	} else {
		culprit = append(culprit, "no_capture", words.NoCapture(hit.Culprit.NoCapture))
	}
	attrs = append(attrs, slog.Group("culprit", culprit...))
	if r.unlogged > 0 {
		attrs = append(attrs, slog.String("not_logged_before", strconv.Itoa(r.unlogged)+" hits"))
		r.unlogged = 0
	}
	r.log.Info("hit", attrs...)
}

// Room returns an error if the disk has no room for another trace.
func (r *recorder) Room() error { return r.disk.Room() }

// Lost records and logs a loss.
func (r *recorder) Lost(l event.Loss) {
	r.counts.Lost(l.Culprit)
	r.evidence.Lost(l)
	level := slog.LevelWarn
	if l.Culprit.Code == event.LossUnverified {
		level = slog.LevelInfo // a verdict rather than a loss
	}
	r.log.Log(context.Background(), level, "lost", slog.Group("culprit", "what", words.Loss(l.Culprit), "count", l.Culprit.Count))
}

// Repeated records how often the packet of a hit was seen.
func (r *recorder) Repeated(id string, count int) {
	r.counts.Repeated(count)
	r.evidence.Repeated(id, count)
}

// packets takes what the trigger makes of packets. A hit goes to the controller, which passes
// it on to [recorder.Hit] once it knows the hit's capture.
type packets struct {
	captures interface{ Hit(*event.Hit) }
	recorder *recorder
}

func (p packets) Hit(h *event.Hit)              { p.captures.Hit(h) }
func (p packets) Repeated(id string, count int) { p.recorder.Repeated(id, count) }
func (p packets) Lost(l event.Loss)             { p.recorder.Lost(l) }
