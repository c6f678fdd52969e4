package main

import (
	"encoding/hex"
	"fmt"
	"strings"

	"culprit/evidence/catalogue"
	"culprit/evidence/dossier"
	"culprit/internal/event"
	"culprit/internal/text"
	"culprit/internal/words"
)

func (s detailPrinter) hit(h *event.Hit) error {
	story, unanswered, err := dossier.Follow(s.r, h)
	if err != nil {
		return err
	}
	s.title("hit %s", h.Event.ID)
	s.host(h.Host)
	s.line("time", "%s", text.Time(h.Timestamp))
	s.line("rule", "%s", h.Rule)
	s.user(h)
	s.line("packet", "%s %s, %s > %s, %d bytes", h.Network.Type, h.Network.Transport, h.Source, h.Destination, h.Network.Bytes)
	if h.Culprit.Netns != nil {
		s.line("", "in network namespace %s", h.Culprit.Netns)
	}
	if h.Culprit.Truncated {
		s.line("", "only the first %d bytes were logged (nflog.snaplen)", len(h.Packet))
	}
	if h.Culprit.Count > 1 {
		s.line("repeated", "%d such packets within a second", h.Culprit.Count)
	}
	asked := h.Culprit.Questions
	if len(asked) == 0 && h.DNS != nil {
		asked = []event.DNS{*h.DNS}
	}
	for _, q := range asked {
		s.line("asks", "%s %s %s (dns id %s)", q.Question.Name, q.Question.Class, q.Question.Type, q.ID)
	}
	s.listed(h)
	s.followed(h, unanswered)
	if err := s.proof(h); err != nil {
		return err
	}
	s.origin(h)
	if h.Container != nil {
		s.line("container", "%s", words.Container(&h.Place))
	}
	if err := s.forwards(h); err != nil {
		return err
	}
	if err := s.captured(h); err != nil {
		return err
	}
	if story != nil {
		s.story(story)
	}
	if err := s.lookBack(h); err != nil {
		return err
	}
	if err := s.snapshotOf(h.Culprit.Snapshot); err != nil {
		return err
	}
	if h.Culprit.Proof != nil {
		if err := s.excerpt(h.Culprit.Proof); err != nil {
			return err
		}
	}
	s.title("packet, from its IP header on")
	for line := range strings.Lines(hex.Dump(h.Packet)) {
		fmt.Fprintf(s.w, "  %s", line)
	}
	return nil
}

// listed says which entry of a list the question matched.
func (s detailPrinter) listed(h *event.Hit) {
	if h.Threat == nil || h.Culprit.Listed == nil {
		return
	}
	s.line("listed", "%s, %s", h.Threat.Indicator.Name, words.Scope(h.Culprit.Listed.Scope))
	s.line("", "%s:%d", h.Culprit.Listed.File, h.Culprit.Listed.Line)
	if note := h.Threat.Indicator.Description; note != "" {
		s.line("", "# %s", note)
	}
}

// user says who opened the packet's socket, and who sent the packet if the kernel saw that it was
// somebody else.
func (s detailPrinter) user(h *event.Hit) {
	if !words.OtherUser(h) {
		s.line("user", "%s (from the kernel: who opened the socket)", h.User.String())
		return
	}
	s.line("user", "socket opened by %s", h.User.String())
	sender := ""
	if h.Process != nil {
		sender = fmt.Sprintf(", PID %d", h.Process.PID)
	}
	s.line("", "sent by %s%s", h.Culprit.Sent.User.String(), sender)
}

// origin says which process sent the packet, and how certain that is.
func (s detailPrinter) origin(h *event.Hit) {
	o := &h.Culprit.Origin
	s.line("origin", "%s", words.Grade(o))
	if sent := h.Culprit.Sent; sent != nil {
		s.line("", "the kernel saw %s at %s", words.Sent(h), text.Time(sent.Timestamp))
	}
	if h.Process != nil {
		s.process(h.Process)
	}
	for i := range o.Processes {
		s.process(&o.Processes[i])
	}
	if o.More > 0 {
		s.line("", "and %d more", o.More)
	}
}

// captured lists the traces of the capture that belong to the hit.
func (s detailPrinter) captured(h *event.Hit) error {
	if h.Culprit.Capture == nil {
		s.line("capture", "none: %s", words.NoCapture(h.Culprit.NoCapture))
		return nil
	}
	s.line("capture", "%s", h.Culprit.Capture.ID)
	triggered := func(t *event.Trace) bool { return t.Culprit.Hit != nil && t.Culprit.Hit.ID == h.Event.ID }
	sender := func(t *event.Trace) bool {
		proves := h.Culprit.Proof != nil && h.Culprit.Proof.Trace.ID == t.Event.ID
		return !triggered(t) && (proves || hasOrigin(h, t))
	}
	capture := catalogue.Filter{Capture: h.Culprit.Capture.ID}
	if err := s.traces("traces it triggered", capture, triggered); err != nil {
		return err
	}
	return s.traces("traces of its process that were running already", capture, sender)
}

// proof says which line of a trace sent the packet, or why no line is known.
func (s detailPrinter) proof(h *event.Hit) error {
	p := h.Culprit.Proof
	if p == nil {
		why, err := dossier.Unproven(s.r, h)
		s.line("proof", "none: %s", why)
		return err
	}
	s.line("proof", "%s: %s (%s by thread %d) of trace %s", words.ProofGrade(p), words.Lines(p), p.Syscall, p.TID, p.Trace.ID)
	return nil
}

// excerpt prints the lines that sent the packet, and what their thread did before and after them.
func (s detailPrinter) excerpt(p *event.ProofDetail) error {
	found, err := s.r.Find(p.Trace.ID)
	if err != nil {
		return err
	}
	t := found.Trace
	if t == nil {
		return fmt.Errorf("show a proof: %s is no trace", p.Trace.ID)
	}
	if t.Culprit.Removed != nil {
		s.title("the trace %s was removed: %s", t.File.Path, words.Removed(*t.Culprit.Removed))
		return nil
	}
	story, err := dossier.Excerpt(t.File.Path, *p)
	if err != nil {
		s.title("the trace cannot be read: %s", dossier.Gone(err, t.Host, t.Culprit.Capture.ID))
		return nil
	}
	s.title("what the thread did around %s, in %s", words.Lines(p), t.File.Path)
	if forked := dossier.ForkedBy(story); forked != "" {
		s.line("", "%s", forked)
	}
	for _, l := range story.Lines {
		mark := " "
		if l.Proof {
			mark = ">"
		}
		if l.Gap {
			fmt.Fprintln(s.w, "           …")
		}
		fmt.Fprintf(s.w, "  %s %6d  %s\n", mark, l.Number, text.Escape(clipLine(l.Text)))
	}
	return nil
}

// clipLine shortens a line of a trace.
func clipLine(s string) string {
	const most = 400
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// forwards prints for whom a forwarder sent the packet, and who forwarded what it asks.
func (s detailPrinter) forwards(h *event.Hit) error {
	d := &h.Culprit
	if from := d.ForwardedFrom; from != nil {
		s.line("forwarded", "for the program of hit %s", from.ID)
		s.line("", "%s", words.Forwarded(from))
	}
	for i := range d.ForwardedCandidates {
		s.line("forwarded", "%s", words.PerhapsForwarded(d, &d.ForwardedCandidates[i]))
	}
	for i := range d.Serves {
		s.line("sends for", "%s", words.Serves(&d.Serves[i]))
	}
	for by, err := range s.r.ForwardedBy(h) {
		if err != nil {
			return err
		}
		key := "forwarded by"
		if by.Culprit.ForwardedFrom == nil {
			key = "perhaps by"
		}
		s.line(key, "%s: hit %s, %s, to %s", by.User, by.Event.ID, text.Time(by.Timestamp), by.Destination)
	}
	return nil
}

// hasOrigin reports whether a trace is of a process that sent the hit's packet, or may have
// sent it.
func hasOrigin(h *event.Hit, t *event.Trace) bool {
	for _, p := range append(h.Senders(), h.Culprit.Origin.Processes...) {
		if p.EntityID == t.Process.EntityID {
			return true
		}
	}
	return false
}
