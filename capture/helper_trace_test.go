package capture

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	"culprit/capture/finder"
	"culprit/capture/gate"
	"culprit/capture/tracer"
	"culprit/internal/config"
	"culprit/internal/event"
	"culprit/internal/proc"
	"culprit/internal/strace"
)

// goes is a gate that notes who was let go.
type goes struct{ numbers []uint64 }

func (g *goes) Watch([]uint32)                   {}
func (g *goes) Go(number uint64)                 { g.numbers = append(g.numbers, number) }
func (g *goes) Run(context.Context, gate.Output) {}

// staged is a trace that a test leads through its life, without a strace.
type staged struct {
	c     *Controller
	gate  *goes
	cam   *campaign
	trace *trace
	start time.Time
}

const stagedStrace = 900 // the PID of its strace

func stage(hold uint64) staged {
	cfg := config.Default()
	c := New(&cfg, strace.Program{}, &memory{captures: map[string]event.Capture{}, traces: map[string]event.Trace{}}, nil, nil, slog.New(slog.DiscardHandler))
	s := staged{c: c, gate: new(goes), cam: aCapture(), start: time.Now()}
	c.gate = s.gate
	c.campaigns[s.cam.owner] = s.cam
	c.running = 1
	s.trace = newTrace(s.cam, s.found(event.FoundGate, "/bin/sh", hold, 0), nil)
	s.trace.strace = make(stops, 1)
	s.cam.traces[s.trace.id] = s.trace
	s.cam.programs.wanted[s.trace.id] = true
	s.cam.budget.started = 1
	return s
}

// found is news of the process, of after so many milliseconds.
func (s staged) found(how, executable string, hold uint64, after int) found {
	return found{hold: hold, Process: finder.Process{
		ID: proc.ID{PID: 7, Start: 1}, Owner: finder.Owner{UID: 64201}, UID: 64201, How: how, At: s.start.Add(time.Duration(after) * time.Millisecond),
		Program: proc.Program{Name: executable, Executable: executable, CommandLine: executable},
	}}
}

func (s staged) attach(after int) {
	traceAttached{s.trace, tracer.Attachment{At: s.start.Add(time.Duration(after) * time.Millisecond), Strace: stagedStrace}}.handle(s.c)
}

func (s staged) end() {
	traceEnded{s.trace, tracer.Ending{Because: event.Ended{Code: event.EndedStrace}}}.handle(s.c)
}

func (s staged) check(t *testing.T, when string, state state, gone ...uint64) {
	t.Helper()
	if s.trace.state != state || !slices.Equal(s.gate.numbers, gone) {
		t.Errorf("%s: %v, let go %v; want %v, %v", when, s.trace.state, s.gate.numbers, state, gone)
	}
}
