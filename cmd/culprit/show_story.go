package main

import (
	"fmt"

	"culprit/evidence/dossier/report"
	"culprit/internal/event"
	"culprit/internal/words"
)

// followed prints what the sender of a hit was told, and what it did then.
func (s detailPrinter) followed(h *event.Hit, unanswered string) {
	told := words.Told(h)
	if told == "" {
		if unanswered != "" {
			s.line("answer", "%s", unanswered)
		}
		return
	}
	s.line("was told", "%s", told)
	s.line("", "%s", words.AnswerLine(h))
	for i, shown := range words.Then(h) {
		key := ""
		if i == 0 {
			key = "then"
		}
		s.line(key, "%s", shown.Text)
	}
}

// story prints what the sender of a hit did, step by step.
func (s detailPrinter) story(of *report.Story) {
	s.title("what it did, step by step")
	for _, note := range of.Notes() {
		fmt.Fprintf(s.w, "  %s\n", note)
	}
	rows := of.Rows()
	who := 0
	for i := range rows {
		who = max(who, len(rows[i].Who))
	}
	for i := range rows {
		r := &rows[i]
		if r.Gap {
			fmt.Fprintln(s.w, "           …")
		}
		mark := " "
		if r.Packet {
			mark = ">"
		}
		fmt.Fprintf(s.w, "  %s %10s  %-*s  %s [%s]\n", mark, r.When, who, r.Who, r, r.Lines)
	}
}
