package prover

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"culprit/evidence/internal/fixture"
	"culprit/internal/event"
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
	if proofs, probable, uncompared := p.Counts(); proofs != hits || probable != 0 || uncompared != 0 {
		t.Errorf("%d proofs, %d probable, %d not compared", proofs, probable, uncompared)
	}
}

// Whoever tells a prover that hangs does not wait; what has no room is counted, but no end of
// a capture is lost.
func TestNobodyWaits(t *testing.T) {
	t.Parallel()
	out := &findings{held: make(chan struct{})}
	p := New(out, threads{}, fixture.Log)
	p.Capture(capture(event.StateEnded)) // here it hangs
	fixture.Eventually(t, "the prover hangs", func() error {
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
	fixture.Eventually(t, "it is recorded", func() error {
		if _, _, n := p.Counts(); n != few {
			return fmt.Errorf("%d are", n)
		}
		return nil
	})
	for i := range hits {
		p.Hit(fixture.SentHit("C", fixture.Query(uint16(i))))
	}
	p.Close()
	if _, _, n := p.Counts(); n != out.lost || n < few+hits/4 {
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
