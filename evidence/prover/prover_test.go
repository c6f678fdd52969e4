package prover

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"culprit/evidence/internal/fixture"
	"culprit/internal/event"
	"culprit/internal/testkit"
)

// findings is an Output for tests. A Prover that is closed has put all into it.
type findings struct {
	proofs  []event.Proof
	lost    uint64
	settled []string
	held    chan struct{} // what is settled waits until it is closed
}

func (f *findings) Proof(p event.Proof) { f.proofs = append(f.proofs, p) }
func (f *findings) Lost(l event.Loss)   { f.lost += l.Culprit.Count }
func (f *findings) Settled(c event.Capture) {
	if f.held != nil {
		<-f.held
	}
	f.settled = append(f.settled, c.Event.ID)
}

// threads are Processes: each thread is the first of a process.
type threads struct{}

func (threads) Process(tid int) (event.Process, bool) {
	return event.Process{PID: tid, CommandLine: fmt.Sprint("thread ", tid)}, true
}

// nowhere is a file that keeps nothing.
type nowhere struct{ io.Writer }

func (nowhere) Close() error { return nil }

func sendLine(tid int, payload []byte) string {
	var s strings.Builder
	for _, c := range payload {
		fmt.Fprintf(&s, `\%03o`, c)
	}
	return fmt.Sprintf("%d %d.000000 sendto(3<UDP:[127.0.0.1:4000->127.0.0.1:53]>, \"%s\", %d, 0, NULL, 0) = %d <0.00001>\n", tid, fixture.SentAt.Unix(), &s, len(payload), len(payload))
}

func capture(state string) event.Capture {
	c := fixture.Capture(state)
	c.Event.ID = "C"
	return c
}

// All that was told before a capture ended is compared before it is settled, and a process
// of its own is the one that is named.
func TestSettled(t *testing.T) {
	t.Parallel()
	out := new(findings)
	p := New(out, threads{}, fixture.Log)
	tr := fixture.Trace("C", "H", event.StateRunning)
	f := p.Compare(&tr, nowhere{io.Discard})
	p.Trace(tr)
	const hits = 100
	for i := range hits {
		fmt.Fprint(f, sendLine(900+i, fixture.Query(uint16(i))))
		p.Hit(fixture.SentHit("C", fixture.Query(uint16(i))))
	}
	f.Close()
	p.Capture(capture(event.StateRunning)) // says nothing
	p.Capture(capture(event.StateEnded))
	p.Close()
	if len(out.proofs) != hits || out.lost != 0 || len(out.settled) != 1 {
		t.Fatalf("%d proofs, %d lost, settled %v", len(out.proofs), out.lost, out.settled)
	}
	for _, pr := range out.proofs {
		if want := fmt.Sprint("thread ", pr.Culprit.TID); pr.Process.CommandLine != want {
			t.Errorf("the process is %+v, want %s", pr.Process, want)
		}
	}
	if n := p.Counts(); n != (Counts{Proofs: hits}) {
		t.Errorf("counted are %+v", n)
	}
}

// Where bytes do not show, the kernel's word proves the line; the process is the one that it saw,
// and the hit can come before the line and after it.
func TestKernel(t *testing.T) {
	t.Parallel()
	for _, first := range []string{"hit", "line"} {
		out := new(findings)
		p := New(out, threads{}, fixture.Log)
		tr := fixture.Trace("C", "H", event.StateRunning)
		f := p.Compare(&tr, nowhere{io.Discard})
		p.Trace(tr)
		hit := fixture.SentHit("C", fixture.Query(1))
		hit.Process = &event.Process{PID: 901, CommandLine: "its process"}
		hit.Culprit.Sent = &event.Sent{Timestamp: fixture.SentAt.Add(50 * time.Microsecond), TID: 902, Syscall: "sendfile"}
		if first == "hit" {
			p.Hit(hit)
		}
		fmt.Fprintf(f, "902 %d.000000 sendfile(3<UDP:[127.0.0.1:4000->127.0.0.1:53]>, 4</tmp/x>, NULL, 33) = 33 <0.000100>\n", fixture.SentAt.Unix())
		fmt.Fprint(f, sendLine(903, fixture.Query(1))) // the same bytes, of another thread
		if first == "line" {
			p.Hit(hit)
		}
		f.Close()
		p.Close()
		if len(out.proofs) != 1 {
			t.Fatalf("%s first: %d proofs", first, len(out.proofs))
		}
		pr := out.proofs[0]
		if d := pr.Culprit; !d.Kernel || d.Probable || d.TID != 902 || d.Line != 1 || pr.Process.CommandLine != "its process" {
			t.Errorf("%s first: the proof is %+v, of %+v", first, d, pr.Process)
		}
		if n := p.Counts(); n != (Counts{Kernel: 1}) {
			t.Errorf("%s first: counted are %+v", first, n)
		}
	}
}

// The process of a proof is the one that the kernel saw. If it had ended before the hit was looked at,
// the trace or the capture's list knows more of it.
func TestProcessThatTheKernelSaw(t *testing.T) {
	t.Parallel()
	tr := fixture.Trace("C", "H", event.StateRunning)
	tr.Process = event.Process{PID: 900, EntityID: "900-1", CommandLine: "of the trace"}
	bare := event.Process{PID: 901, EntityID: "901-1", Name: "x", Start: fixture.SentAt}
	for name, tt := range map[string]struct {
		its     event.Process
		tid     int
		program string
		want    string
	}{
		"its own trace":        {event.Process{PID: 900, EntityID: "900-1", Name: "x"}, 900, "", "of the trace"},
		"a thread":             {event.Process{PID: 900, EntityID: "900-1", Name: "x"}, 907, "", "of the trace"},
		"a child":              {event.Process{PID: 901, EntityID: "901-1", CommandLine: "child"}, 901, "", "child"},
		"a child's thread":     {event.Process{PID: 901, EntityID: "901-1", CommandLine: "child"}, 907, "", "child"},
		"a child that is gone": {bare, 901, "in the list", "in the list"},
	} {
		out := new(findings)
		p := New(out, threads{}, fixture.Log)
		f := p.Compare(&tr, nowhere{io.Discard})
		p.Trace(tr)
		hit := fixture.SentHit("C", fixture.Query(1))
		hit.Process = &tt.its
		hit.Culprit.Sent = &event.Sent{Timestamp: fixture.SentAt, TID: tt.tid, Syscall: "sendto"}
		p.Hit(hit)
		if tt.program != "" {
			ended := fixture.SentAt.Add(time.Second)
			of := event.Process{PID: tt.its.PID, EntityID: tt.its.EntityID, CommandLine: tt.program, Start: fixture.SentAt}
			p.Program(event.Program{Event: event.Meta{End: &ended}, Process: of, Culprit: event.ProgramDetail{Capture: event.Reference{ID: "C"}}})
		}
		fmt.Fprint(f, sendLine(tt.tid, fixture.Query(1)))
		f.Close()
		p.Close()
		if len(out.proofs) != 1 || out.proofs[0].Process.CommandLine != tt.want || out.proofs[0].Process.Parent != nil {
			t.Errorf("%s: the proofs are %+v, want one of %s", name, out.proofs, tt.want)
		}
	}
}

// Whoever tells a prover that hangs does not wait; what has no room is counted, but no end of
// a capture is lost.
func TestNobodyWaits(t *testing.T) {
	t.Parallel()
	out := &findings{held: make(chan struct{})}
	p := New(out, threads{}, fixture.Log)
	p.Capture(capture(event.StateEnded)) // here it hangs
	testkit.Eventually(t, "the prover hangs", func() error {
		p.mail.mu.Lock()
		defer p.mail.mu.Unlock()
		if n := len(p.mail.waiting); n > 0 {
			return fmt.Errorf("%d news wait", n)
		}
		return nil
	})
	const more, captures = 10, 100
	hit, tr := fixture.SentHit("C", fixture.Query(1)), fixture.Trace("C", "H", event.StateRunning)
	for range maxComparisons + more {
		p.Hit(hit)
	}
	for range maxFacts + more {
		p.Trace(tr)
	}
	for range captures {
		p.Capture(capture(event.StateEnded))
	}
	close(out.held)
	p.Close()
	if out.lost < 2*more || len(out.settled) != 1+captures {
		t.Errorf("%d are lost, want %d at least; %d captures settled, want %d", out.lost, 2*more, len(out.settled), 1+captures)
	}
}

// What was not compared is recorded also when no capture runs, and of captures that run when
// the prover is closed.
func TestLostIsRecorded(t *testing.T) {
	t.Parallel()
	out := new(findings)
	p := New(out, threads{}, fixture.Log)
	const few, hits = 3, 2000 // more hits than wait for their sends
	p.mail.lose(few)
	testkit.Eventually(t, "it is recorded", func() error {
		if n := p.Counts().Uncompared; n != few {
			return fmt.Errorf("%d are", n)
		}
		return nil
	})
	for i := range hits {
		p.Hit(fixture.SentHit("C", fixture.Query(uint16(i))))
	}
	p.Close()
	if n := p.Counts().Uncompared; n != out.lost || n < few+hits/4 {
		t.Errorf("%d are counted and %d recorded", n, out.lost)
	}
}

// A program that is known only when it has ended becomes the process of its proofs, unless
// another process had the same PID.
func TestProgramOfProof(t *testing.T) {
	t.Parallel()
	program := func(start, end time.Duration) event.Program {
		at := fixture.SentAt.Add(end)
		return event.Program{
			Event:   event.Meta{End: &at},
			Process: event.Process{PID: 900, CommandLine: "lookup", Start: fixture.SentAt.Add(start)},
		}
	}
	for name, tt := range map[string]struct {
		program event.Program
		want    string
	}{
		"lived then": {program(-time.Second, time.Second), "lookup"},
		"later":      {program(time.Second, time.Minute), "sh"},
		"before":     {program(-time.Minute, -time.Second), "sh"},
		"none":       {event.Program{}, "sh"},
	} {
		pr := event.Proof{Timestamp: fixture.SentAt, Process: event.Process{PID: 812, CommandLine: "sh"}, Culprit: event.ProofDetail{TID: 900}}
		if setProgram(&pr, tt.program); pr.Process.CommandLine != tt.want {
			t.Errorf("%s: the process is %+v, want %s", name, pr.Process, tt.want)
		}
	}
}
