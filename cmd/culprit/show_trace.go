package main

import (
	"time"

	"culprit/internal/event"
	"culprit/internal/text"
	"culprit/internal/words"
)

func (s detailPrinter) trace(t *event.Trace) error {
	d := &t.Culprit
	s.title("trace %s", t.Event.ID)
	s.line("file", "%s, %s", t.File.Path, text.Size(t.File.Size))
	if d.Removed != nil {
		s.line("", "it was removed: %s", words.Removed(*d.Removed))
	}
	s.line("user", "%s", &t.User)
	s.process(&t.Process)
	if t.Process.ExitCode != nil {
		s.line("exit status", "%d", *t.Process.ExitCode)
	}
	if t.Container != nil {
		s.line("container", "%s", t.Container.ID)
	}
	s.line("found by", "%s; strace attached %.1f ms later", words.FoundBy(d.FoundBy), d.AttachMS)
	s.line("life", "%s", d.Life())
	s.line("started", "%s", text.Time(t.Timestamp))
	if t.Event.End != nil {
		s.line("ended", "%s, after %s", text.Time(*t.Event.End), time.Duration(t.Event.Duration).Round(time.Millisecond))
	}
	s.line("state", "%s", words.TraceState(t))
	if d.Truncated {
		s.line("truncated", "%s of strace output was not kept", text.Size(d.Lost))
	}
	s.line("capture", "%s", d.Capture.ID)
	if d.Hit != nil {
		s.line("hit", "%s", d.Hit.ID)
	}
	s.line("strace", "%s", text.Quote(d.Command))
	for _, p := range d.Proofs {
		grade := "sent"
		if p.Probable {
			grade = "probably sent"
		}
		s.line("proof", "line %d (%s by thread %d) %s the packet of hit %s", p.Line, p.Syscall, p.TID, grade, p.Hit.ID)
	}
	if d.Hit == nil {
		return nil
	}
	found, err := s.r.Find(d.Hit.ID)
	if h := found.Hit; h != nil && err == nil {
		s.title("the packet that triggered it: rule %s, %s, %s %s > %s, asks %s", h.Rule.Name, text.Time(h.Timestamp), h.Network.Transport, h.Source, h.Destination, h.Asks())
	}
	return nil
}
