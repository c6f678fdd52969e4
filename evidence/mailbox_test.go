package evidence

import (
	"testing"

	"culprit/evidence/internal/fixture"
	"culprit/internal/event"
	"culprit/internal/redact"
)

// Whoever records does not wait for a writer that hangs: it gets all at once, in the order of
// what depends on what, and what had no room is counted.
func TestNobodyWaitsForTheWriter(t *testing.T) {
	t.Parallel()
	s := &Store{mail: newMailbox()} // nobody writes
	c := fixture.Capture(event.StateRunning)
	const many = 50_000 // more than there is room for
	for range many {
		s.mail.put(func(p *pending) { p.Capture(c) })
		s.mail.put(func(p *pending) { p.Hit(fixture.Hit("7", "a")) })
		s.mail.put(func(p *pending) { p.settle(c) })
	}
	waiting, dropped := s.mail.waiting.Load(), s.mail.dropped.Load()
	if dropped == 0 || uint64(waiting)+dropped != many+1 { // the capture is there once
		t.Errorf("%d wait and %d are dropped, of %d", waiting, dropped, many)
	}
	all, last := s.mail.take()
	if int64(all.Size()) != waiting || all.Dropped() != dropped || len(all.settled) != maxSettled || last {
		t.Errorf("the writer gets %d, %d are dropped, %d settled, the last: %t", all.Size(), all.Dropped(), len(all.settled), last)
	}
	// It could not write that.
	next, _ := s.mail.take()
	kept := all.kept().then(next)
	if kept.Size() != 1 || kept.Dropped() != many || len(kept.settled) != maxSettled {
		t.Errorf("kept are %d, %d are dropped, %d settled", kept.Size(), kept.Dropped(), len(kept.settled))
	}
	s.mail.close()
	if _, last := s.mail.take(); !last {
		t.Error("the writer does not learn that it was the last")
	}
}

// What is masked in a hit is masked in a copy: others have the hit, too.
func TestMaskedIsCopied(t *testing.T) {
	t.Parallel()
	secret, errs := redact.Compile([]string{"secret"})
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	h := fixture.Hit("7", "a")
	h.Process.CommandLine = "curl secret"
	h.Process.Parent = &event.Process{CommandLine: "sh secret"}
	h.Culprit.Origin.Processes = []event.Process{{CommandLine: "other secret"}}
	h.Threat = event.NewThreat(event.Listed{}, "evil.example", "a secret")
	masked := maskHit(secret, h)
	if h.Threat.Indicator.Description != "a secret" || masked.Threat.Indicator.Description != "a ******" {
		t.Errorf("the comment of a list: %+v, masked: %+v", h.Threat, masked.Threat)
	}
	if h.Process.CommandLine != "curl secret" || h.Process.Parent.CommandLine != "sh secret" || h.Culprit.Origin.Processes[0].CommandLine != "other secret" {
		t.Errorf("the hit was changed: %+v", h)
	}
	if masked.Process.CommandLine != "curl ******" || masked.Process.Parent.CommandLine != "sh ******" || masked.Culprit.Origin.Processes[0].CommandLine != "other ******" {
		t.Errorf("the copy is not masked: %+v", masked)
	}
	if maskHit(nil, h) != h {
		t.Error("a hit is copied for nothing")
	}
}
