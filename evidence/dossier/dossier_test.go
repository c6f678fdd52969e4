package dossier

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"culprit/evidence/catalogue"
	"culprit/evidence/directory"
	"culprit/evidence/internal/fixture"
	"culprit/internal/event"
)

// A hit that no trace proves says why not.
func TestUnproven(t *testing.T) {
	t.Parallel()
	at := func(d time.Duration) *time.Time {
		t := fixture.SentAt.Add(d)
		return &t
	}
	trace := func(entity string, from, to time.Duration, lost int64) event.Trace {
		return event.Trace{
			Timestamp: *at(from), Event: event.Meta{End: at(to)}, Process: event.Process{PID: 812, EntityID: entity},
			Culprit: event.TraceDetail{Lost: lost, EndedBecause: &event.Ended{Code: "it did"}},
		}
	}
	known := func(h *event.Hit) { h.Process = &event.Process{PID: 812, EntityID: "812-1"} }
	seen := func(h *event.Hit) {
		h.Culprit.Sent = &event.Sent{Timestamp: fixture.SentAt, TID: 813, Syscall: "close"}
	}
	fromPacket := func(t event.Trace) event.Trace {
		t.Culprit.FromPacket, t.Culprit.Hit = true, &event.Reference{ID: "H"}
		return t
	}
	program := func(reason *event.Untraced, traced bool) []event.Program {
		return []event.Program{{Process: event.Process{EntityID: "812-1"}, Culprit: event.ProgramDetail{Reason: reason, Traced: traced}}}
	}
	for _, tt := range []struct {
		name     string
		change   func(*event.Hit)
		traces   []event.Trace
		programs []event.Program
		want     string
		after    time.Duration
	}{
		{"no capture", func(h *event.Hit) { h.Culprit.Capture, h.Culprit.NoCapture = nil, &event.NoCapture{Code: "never"} }, nil, nil, "never", time.Minute},
		{"proven", func(h *event.Hit) { h.Culprit.Proof = &event.ProofDetail{} }, nil, nil, "", time.Minute},
		{"probable", func(h *event.Hit) { h.Culprit.Proof = &event.ProofDetail{Probable: true} }, nil, nil, "only part of the bytes", time.Minute},
		{"too young", nil, nil, nil, "not yet", time.Second},
		{"nothing traced", nil, []event.Trace{trace("1-1", time.Second, time.Minute, 0)}, nil, "no process was traced yet", time.Minute},
		{"others traced", nil, []event.Trace{trace("1-1", -time.Second, time.Minute, 0)}, nil, "these bytes are not in what was traced then (1 trace)", time.Minute},
		{"too late", known, []event.Trace{trace("812-1", 5*time.Millisecond, time.Minute, 0)}, nil, "strace attached to process 812 4ms after it sent the packet", time.Minute},
		{"ended", known, []event.Trace{trace("812-1", -time.Minute, -time.Second, 0)}, nil, "had ended by then: it did", time.Minute},
		{"lost", known, []event.Trace{trace("812-1", -time.Minute, time.Minute, 9)}, nil, "lost 9 bytes", time.Minute},
		{"io_uring", known, []event.Trace{trace("812-1", -time.Minute, time.Minute, 0)}, nil, "io_uring", time.Minute},
		{"seen by the kernel, traced later", func(h *event.Hit) { known(h); seen(h) }, []event.Trace{trace("812-1", 500*time.Microsecond, time.Minute, 0)}, nil, "strace attached to process 812 1ms after it sent the packet", time.Minute},
		{"stopped at the packet", func(h *event.Hit) { known(h); seen(h); h.Event.ID = "H" }, []event.Trace{fromPacket(trace("812-1", 500*time.Microsecond, time.Minute, 0))}, nil, "the kernel saw thread 813 in close send the packet, and stopped process 812 there", time.Minute},
		{"stopped at another packet", func(h *event.Hit) { known(h); seen(h) }, []event.Trace{fromPacket(trace("812-1", 500*time.Microsecond, time.Minute, 0))}, nil, "strace attached to process 812", time.Minute},
		{"seen by the kernel, not in the trace", func(h *event.Hit) { known(h); seen(h) }, []event.Trace{trace("812-1", -time.Minute, time.Minute, 0)}, nil, "the kernel saw thread 813 in close of it, but its trace has no such call", time.Minute},
		{"proven by the kernel", func(h *event.Hit) { h.Culprit.Proof = &event.ProofDetail{Kernel: true} }, nil, nil, "", time.Minute},
		{"not traced", known, nil, nil, "process 812 was not traced", time.Minute},
		{"not traced, known why", known, nil, program(&event.Untraced{Code: event.UntracedLevel, Detail: "1 allows 5"}, false), "process 812 was not traced: level 1 allows 5 processes", time.Minute},
		{"descendant", known, nil, program(nil, true), "traced with its parent", time.Minute},
	} {
		h := fixture.SentHit("C", fixture.Query(1))
		if tt.change != nil {
			tt.change(h)
		}
		if got := unproven(h, tt.traces, tt.programs, fixture.SentAt.Add(tt.after)); !strings.Contains(got, tt.want) || (tt.want == "") != (got == "") {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// A report of a capture that lived through weeks of losses holds a bounded number of them,
// and counts all.
func TestLossesOfCapture(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d, err := directory.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	s, _, err := catalogue.Open(d, nil, fixture.Log)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	b := catalogue.NewBatch()
	c := fixture.Capture(event.StateEnded)
	c.Event.End = nil
	const n = 3 * caseLosses
	for i := range n {
		b.Loss(event.NewLoss(event.LossCode(fmt.Sprint("of kind ", i%3)), "", 2))
	}
	if err := s.Write(b); err != nil {
		t.Fatal(err)
	}
	ls, err := lossesOf(s.Reader(), &c)
	if err != nil {
		t.Fatal(err)
	}
	var count uint64
	for _, l := range ls {
		count += l.Culprit.Count
	}
	if len(ls) != caseLosses+3 || count != 2*n {
		t.Errorf("%d losses that count %d, want %d that count %d", len(ls), count, caseLosses+3, 2*n)
	}
}
