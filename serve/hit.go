package serve

import (
	"encoding/hex"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"strings"

	"culprit/evidence/catalogue"
	"culprit/evidence/dossier"
	"culprit/evidence/dossier/report"
	"culprit/internal/event"
	"culprit/internal/text"
	"culprit/internal/words"
)

// fact is a line of what is known.
type fact struct{ Key, Value, Link string }

// hitPage is the page of a hit: its facts, and the report of its capture.
type hitPage struct {
	Row    row
	Facts  []fact
	Dump   string
	Report template.HTML // "": it has no capture
}

func (s *Server) hit(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	if id, ok := strings.CutSuffix(id, ".pcapng"); ok {
		s.hitPackets(w, r, id)
		return
	}
	s.page(w, r, "hit.html", func(reader *catalogue.Reader) (string, any, error) {
		h, err := find(reader, id, aHit())
		if err != nil {
			return "", nil, err
		}
		p := hitPage{Row: rowOf(h), Dump: hex.Dump(h.Packet)}
		if p.Facts, err = facts(reader, h); err != nil {
			return "", nil, err
		}
		if h.Culprit.Capture != nil {
			p.Report, err = reportOf(reader, h.Culprit.Capture.ID)
		}
		return h.Asks(), p, err
	})
}

// reportOf returns the report of a capture, or a note that it is gone.
func reportOf(r *catalogue.Reader, capture string) (template.HTML, error) {
	c, err := r.CaptureOf(capture)
	if err != nil {
		return template.HTML("<p class=note>" + template.HTMLEscapeString(err.Error()) + "</p>"), nil
	}
	rc, err := dossier.Case(r, *c)
	if err != nil {
		return "", err
	}
	return report.Body(rc, traceLine)
}

// facts are what is known of a hit alone.
func facts(r *catalogue.Reader, h *event.Hit) ([]fact, error) {
	var all []fact
	add := func(key, link, format string, args ...any) {
		all = append(all, fact{key, text.Clip(text.Escape(fmt.Sprintf(format, args...)), 600), link})
	}
	_, unanswered, err := dossier.Follow(r, h)
	if err != nil {
		return nil, err
	}
	if h.Host != nil {
		add("Host", link(map[string][]string{hostField: {h.Host.Name}}), "%s", h.Host.Name)
	}
	add("Time", "", "%s", text.Time(h.Timestamp))
	add("Rule", link(map[string][]string{"rule": {h.Rule.Name}}), "%s", h.Rule)
	if h.User != nil {
		add("User", link(map[string][]string{"user": {h.User.ID}}), "%s", h.User)
	} else {
		add("User", "", "unknown")
	}
	add("Packet", "", "%s %s, %s > %s, %d bytes", h.Network.Type, h.Network.Transport, h.Source, h.Destination, h.Network.Bytes)
	if h.DNS != nil {
		add("Asks", link(map[string][]string{"name": {h.DNS.Question.Name}}), "%s", h.Asks())
		if h.Host != nil {
			others, err := whoElse(r, h)
			if err != nil {
				return nil, err
			}
			add("Who else asked", link(map[string][]string{"name": {h.DNS.Question.Name}}), "%s", others)
		}
	}
	if entry := h.Entry(); entry != "" {
		add("Listed", "", "%s", entry)
	}
	if told := words.Told(h); told != "" {
		add("Was told", traceLine(h.Culprit.Answer.Trace.ID, h.Culprit.Answer.Line), "%s", told)
		for _, s := range words.Then(h) {
			shown := ""
			if s.Line > 0 {
				shown = traceLine(s.Trace, s.Line)
			}
			add("Then", shown, "%s", s.Text)
		}
	} else if unanswered != "" {
		add("Answer", "", "%s", unanswered)
	}
	if p := h.Culprit.Proof; p != nil {
		add("Proof", traceLine(p.Trace.ID, p.Line), "%s: %s (%s by thread %d)", words.ProofGrade(p), words.Lines(p), p.Syscall, p.TID)
	} else {
		why, err := dossier.Unproven(r, h)
		if err != nil {
			return nil, err
		}
		add("Proof", "", "none: %s", why)
	}
	add("Sender", "", "%s", words.Sender(h))
	add("How sure", "", "%s", words.Grade(&h.Culprit.Origin))
	if h.Process != nil {
		for _, parent := range h.Process.Ancestry() {
			add("Started by", "", "%s", parent)
		}
	}
	if h.Container != nil {
		add("Container", link(map[string][]string{"container": {h.Container.Label()}}), "%s", words.Container(&h.Place))
	}
	if from := h.Culprit.ForwardedFrom; from != nil {
		add("Forwarded", "/hits/"+from.ID, "for %s", words.Forwarded(from))
	}
	for i := range h.Culprit.ForwardedCandidates {
		c := &h.Culprit.ForwardedCandidates[i]
		add("Forwarded", "/hits/"+c.ID, "%s", words.PerhapsForwarded(&h.Culprit, c))
	}
	for i := range h.Culprit.Serves {
		add("Sends for", "", "%s", words.Serves(&h.Culprit.Serves[i]))
	}
	if c := h.Culprit.Capture; c != nil {
		add("Capture", "/captures/"+c.ID, "%s", c.ID)
	} else {
		add("Capture", "", "none: %s", words.NoCapture(h.Culprit.NoCapture))
	}
	return all, nil
}

// link is the address of the hits that a filter chooses.
func link(filter url.Values) string { return "/?" + string(query(filter, "", "")) }
