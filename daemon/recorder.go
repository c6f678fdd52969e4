package daemon

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"strconv"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"

	"culprit/capture/snapshot"
	"culprit/evidence/directory"
	"culprit/internal/config"
	"culprit/internal/event"
	"culprit/internal/strace"
	"culprit/internal/words"
	"culprit/trigger"
)

// keptEvidence takes documents and traces.
type keptEvidence interface {
	Hit(*event.Hit)
	Back(h *event.Hit, trace string)
	Repeated(id string, count int)
	Capture(event.Capture)
	Trace(event.Trace)
	Program(event.Program)
	Lost(event.Loss)
	Snapshot(event.Snapshot)
	Executable(sha256 string) (event.File, bool)
	KeepExecutable(content io.Reader, most int64) (sha256 string, file event.File, err error)
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
	backs    *lookbacks   // nil: nobody's calls are kept
	largest  atomic.Int64 // executable of which a copy is kept, in bytes
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
	s.Host.OS.Kernel = kernel()
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
	if t.Culprit.LookBack != nil && t.Culprit.State == event.StateRunning {
		r.counts.LookedBack()
	}
	r.evidence.Trace(t)
}

// Hit records and logs a hit. The controller calls it, on one goroutine.
func (r *recorder) Hit(hit *event.Hit) {
	r.counts.Hit(hit.Rule.Name, hit.Culprit.Origin.Grade)
	r.counts.HitOf(hit.User, hit.Container)
	if hit.Container != nil {
		r.counts.InContainer(hit.Container)
	}
	r.evidence.Hit(hit)
	r.backs.Hit(hit)
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
	if hit.Threat != nil {
		attrs = append(attrs, slog.Group("threat", slog.Group("indicator", "name", hit.Threat.Indicator.Name, "reference", hit.Threat.Indicator.Reference)))
	}
	attrs = append(attrs,
		slog.Group("source", "ip", hit.Source.IP, "port", hit.Source.Port),
		slog.Group("destination", "ip", hit.Destination.IP, "port", hit.Destination.Port))
	if hit.Process != nil {
		attrs = append(attrs, slog.Group("process", "pid", hit.Process.PID, "command_line", hit.Process.CommandLine))
	}
	if hit.Container != nil {
		attrs = append(attrs, slog.Group("container", "id", hit.Container.ID, "name", hit.Container.Name))
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

// Back says that a look-back of a hit is about to be written.
func (r *recorder) Back(h *event.Hit, trace string) { r.evidence.Back(h, trace) }

// Room returns an error if the disk has no room for another trace.
func (r *recorder) Room() error { return r.disk.Room() }

// Snapshot records a snapshot.
func (r *recorder) Snapshot(s event.Snapshot) { r.evidence.Snapshot(s) }

// Executable returns the copy of the executable with that SHA-256, if there is one.
func (r *recorder) Executable(sha256 string) (event.File, bool) { return r.evidence.Executable(sha256) }

// configured takes over a configuration that is now in force.
func (r *recorder) configured(c *config.Config) {
	r.largest.Store(int64(c.Evidence.KeepExecutables))
	if r.backs != nil {
		r.backs.never.Store(&c.Guard)
	}
}

// KeepExecutable keeps a copy of an executable, if the configuration and the disk allow it.
func (r *recorder) KeepExecutable(content io.Reader, size int64) (sha256 string, file event.File, why *snapshot.Unkept) {
	most := r.largest.Load()
	switch err := r.disk.Room(); {
	case most == 0:
		return "", file, &snapshot.Unkept{Code: event.IncompleteOff}
	case size > most:
		return "", file, snapshot.TooLarge(size)
	case err != nil:
		return "", file, &snapshot.Unkept{Code: event.IncompleteNoRoom, Detail: err.Error()}
	}
	sha256, file, err := r.evidence.KeepExecutable(content, most)
	switch {
	case errors.Is(err, directory.ErrTooLarge): // it grew
		why = snapshot.TooLarge(most)
	case errors.Is(err, unix.ENOSPC):
		why = &snapshot.Unkept{Code: event.IncompleteNoRoom, Detail: err.Error()}
	case err != nil:
		why = &snapshot.Unkept{Code: event.IncompleteFailed, Detail: err.Error()}
	}
	return sha256, file, why
}

// Lost records and logs a loss.
func (r *recorder) Lost(l event.Loss) {
	r.counts.Lost(l.Culprit)
	if l.Container != nil {
		r.counts.LostInContainer(l.Container, l.Culprit.Count)
	}
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
	captures interface {
		Hit(*event.Hit)
		LetGo(hold uint64)
	}
	recorder *recorder
}

func (p packets) Hit(h *event.Hit)              { p.captures.Hit(h) }
func (p packets) LetGo(hold uint64)             { p.captures.LetGo(hold) }
func (p packets) Repeated(id string, count int) { p.recorder.Repeated(id, count) }
func (p packets) Lost(l event.Loss)             { p.recorder.Lost(l) }
func (p packets) Looked(rule string, n trigger.Looked) {
	p.recorder.counts.Looked(rule, n.Hits, n.Misses)
}
