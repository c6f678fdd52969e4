package prover

import (
	"fmt"
	"io"
	"testing"

	"culprit/evidence/internal/fixture"
	"culprit/internal/event"
)

// A hit is proven by its look-back also if it has no capture, or if that has ended before, and forgotten
// with it.
func TestBack(t *testing.T) {
	t.Parallel()
	for name, captured := range map[string]bool{"no capture": false, "ended before": true} {
		out := new(findings)
		p := New(out, threads{}, fixture.Log)
		hit := fixture.SentHit("C", fixture.Query(1))
		tr := fixture.Trace("C", hit.Event.ID, event.StateRunning)
		if !captured {
			hit.Culprit.Capture, tr.Culprit.Capture.ID = nil, hit.Event.ID
		}
		tr.Culprit.LookBack = new(event.LookBack)
		p.Hit(hit)
		if captured {
			c := fixture.Capture(event.StateEnded)
			c.Event.ID = "C"
			p.Capture(c)
		}
		p.Back(hit, tr.Event.ID)
		f := p.Compare(&tr, nowhere{io.Discard})
		p.Trace(tr)
		fmt.Fprint(f, sendLine(901, fixture.Query(1)))
		f.Close()
		tr.Culprit.State = event.StateEnded
		p.Trace(tr)
		p.Trace(tr) // too late
		p.Close()
		if len(out.proofs) != 1 || out.proofs[0].Culprit.Hit.ID != hit.Event.ID || len(p.captures) != 0 {
			t.Errorf("%s: proofs %+v, left %v", name, out.proofs, p.captures)
		}
	}
}

// While its capture goes on, a hit is proven once, also if two traces have its line.
func TestBackOfCapture(t *testing.T) {
	t.Parallel()
	out := new(findings)
	p := New(out, threads{}, fixture.Log)
	hit := fixture.SentHit("C", fixture.Query(1))
	p.Hit(hit)
	for _, lookBack := range []*event.LookBack{nil, new(event.LookBack)} {
		tr := fixture.Trace("C", hit.Event.ID, event.StateRunning)
		if tr.Culprit.LookBack = lookBack; lookBack != nil {
			p.Back(hit, tr.Event.ID)
		}
		f := p.Compare(&tr, nowhere{io.Discard})
		p.Trace(tr)
		fmt.Fprint(f, sendLine(901, fixture.Query(1)))
		f.Close()
		tr.Culprit.State = event.StateEnded
		p.Trace(tr)
	}
	p.Close()
	if len(out.proofs) != 1 {
		t.Errorf("proofs %+v", out.proofs)
	}
}
