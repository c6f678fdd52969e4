package main

import (
	"fmt"

	"culprit/evidence/catalogue"
	"culprit/evidence/dossier"
	"culprit/internal/event"
	"culprit/internal/text"
	"culprit/internal/words"
)

// lookBack prints what the sender of a hit did before, as far as it was kept in memory.
func (s detailPrinter) lookBack(h *event.Hit) error {
	capture := h.Event.ID // see event.TraceDetail.Capture
	if h.Culprit.Capture != nil {
		capture = h.Culprit.Capture.ID
	}
	for t, err := range s.r.Traces(catalogue.Filter{Capture: capture, NoProofs: true}) {
		if err != nil {
			return err
		}
		if t.Culprit.LookBack == nil || t.Culprit.Hit == nil || t.Culprit.Hit.ID != h.Event.ID {
			continue
		}
		s.title("what it did before the packet, and up to a second after it, in %s", t.File.Path)
		for _, line := range words.LookBack(t.Culprit.LookBack) {
			s.line("", "%s", line)
		}
		if t.Culprit.Removed != nil {
			s.line("", "it was removed: %s", words.Removed(*t.Culprit.Removed))
			continue
		}
		lines, err := dossier.LookBack(t.File.Path)
		if err != nil {
			s.line("", "it cannot be read: %v", err)
			continue
		}
		for _, l := range lines {
			if l.Gap {
				fmt.Fprintln(s.w, "           …")
			}
			fmt.Fprintf(s.w, "    %6d  %s\n", l.Number, text.Escape(clipLine(l.Text)))
		}
	}
	return nil
}
