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
	s.host(t.Host)
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
		s.line("container", "%s", words.Container(&t.Place))
	}
	if d.LookBack == nil {
		s.line("found by", "%s; strace attached %.1f ms later", words.FoundBy(d.FoundBy), d.AttachMS)
	} else {
		s.line("found by", "%s", words.FoundBy(d.FoundBy))
		for _, line := range words.LookBack(d.LookBack) {
			s.line("look-back", "%s", line)
		}
	}
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
	if d.LookBack == nil {
		s.line("strace", "%s", text.Quote(d.Command))
	}
	for _, p := range d.Proofs {
		grade, how := "sent", ""
		switch {
		case p.Probable:
			grade = "probably sent"
		case p.Kernel:
			how = ": " + words.KernelProof
		}
		s.line("proof", "%s (%s by thread %d) %s the packet of hit %s%s", words.Lines(&p), p.Syscall, p.TID, grade, p.Hit.ID, how)
	}
	if err := s.snapshotOf(d.Snapshot); err != nil {
		return err
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
