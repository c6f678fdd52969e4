package dossier

import (
	"io"
	"slices"

	"culprit/evidence/catalogue"
	"culprit/evidence/dossier/report"
	"culprit/evidence/story"
	"culprit/evidence/tracefile"
	"culprit/internal/event"
	"culprit/internal/words"
)

// Bounds of what is read for one process.
const (
	maxRead = 8   // traces
	maxHits = 500 // that are followed
)

// Follow reads the traces of a hit's sender, and adds to the hit what followed its packet: the
// answer, and the connections to what that says. It returns what the sender did, and why there is no
// answer, if there is none.
func Follow(r *catalogue.Reader, h *event.Hit) (*report.Story, string, error) {
	of := catalogue.Filter{Capture: h.Event.ID} // see event.TraceDetail.Capture
	if h.Culprit.Capture != nil {
		of.Capture = h.Culprit.Capture.ID
	}
	traces, err := catalogue.All(r.Traces(of))
	if err != nil {
		return nil, "", err
	}
	s := tell([]*event.Hit{h}, traces)
	return s, unanswered(h, traces), nil
}

// tell adds to hits of one process what followed them, and returns what that process did, or nil if
// no trace of it can be read.
func tell(hits []*event.Hit, traces []event.Trace) *report.Story {
	of := story.Of{Hits: hits}
	for _, t := range ofSender(hits, traces) {
		of.Traces = append(of.Traces, story.Trace{Trace: t, Open: func() (io.ReadCloser, error) { return tracefile.Open(t.File.Path) }})
	}
	s, _ := story.Read(of) // what cannot be read tells nothing
	if len(s.Traces) == 0 {
		return nil
	}
	for _, h := range hits {
		if a := s.Answers[h.Event.ID]; a != nil {
			answer(h, a)
		}
	}
	told := &report.Story{Hit: *hits[0], Steps: s.Steps}
	for _, t := range s.Traces {
		told.Traces = append(told.Traces, *t)
	}
	return told
}

// stories adds what the senders of a case did, and what followed their packets: of the first ones, as
// each has traces to be read.
func stories(rc *report.Case) {
	var order []string
	by := map[string][]*event.Hit{}
	for i := range rc.Hits {
		h := &rc.Hits[i]
		if h.Process == nil || h.DNS == nil {
			continue
		}
		id := h.Process.EntityID
		if by[id] == nil && len(by) == caseFollowed {
			continue
		}
		if by[id] == nil {
			order = append(order, id)
		}
		if len(by[id]) < maxHits {
			by[id] = append(by[id], h)
		}
	}
	for _, id := range order {
		if s := tell(by[id], rc.Traces); s != nil && len(rc.Stories) < caseStories {
			rc.Stories = append(rc.Stories, s)
		}
		for _, h := range by[id] {
			if why := unanswered(h, rc.Traces); why != "" {
				rc.Unanswered[h.Event.ID] = why
			}
		}
	}
}

// ofSender returns the traces that show what the sender of hits did from the packet on, or what was before if there is no other. Of
// many those count that have the packet. Look-backs come first: they begin before it.
func ofSender(hits []*event.Hit, traces []event.Trace) (its []*event.Trace) {
	for i := range traces {
		t := &traces[i]
		is := func(h *event.Hit) bool {
			return h.Culprit.Proof != nil && h.Culprit.Proof.Trace.ID == t.Event.ID || h.Process != nil && h.Process.EntityID == t.Process.EntityID
		}
		if t.Culprit.Removed == nil && slices.ContainsFunc(hits, is) {
			its = append(its, t)
		}
	}
	before := func(t *event.Trace) bool { return !hasPacket(t, hits[0]) && !t.Timestamp.After(sentAt(hits[0])) }
	if slices.ContainsFunc(its, func(t *event.Trace) bool { return !before(t) }) {
		its = slices.DeleteFunc(its, before)
	}
	first := func(is func(*event.Trace) bool) {
		slices.SortStableFunc(its, func(a, b *event.Trace) int {
			switch {
			case is(a) == is(b):
				return a.Timestamp.Compare(b.Timestamp)
			case is(a):
				return -1
			}
			return 1
		})
	}
	first(func(t *event.Trace) bool { return hasPacket(t, hits[0]) })
	its = its[:min(len(its), maxRead)]
	first(func(t *event.Trace) bool { return t.Culprit.LookBack != nil })
	return its
}

// hasPacket reports whether a trace goes on when the packet of a hit was sent.
func hasPacket(t *event.Trace, h *event.Hit) bool {
	if h.Culprit.Proof != nil && h.Culprit.Proof.Trace.ID == t.Event.ID || t.Culprit.Hit != nil && t.Culprit.Hit.ID == h.Event.ID {
		return true
	}
	at := sentAt(h)
	return !t.Timestamp.After(at) && (t.Event.End == nil || !t.Event.End.Before(at))
}

// answer adds an answer to a hit.
func answer(h *event.Hit, a *story.Answer) {
	d := event.DNS{}
	if h.DNS != nil {
		d = *h.DNS
	}
	d.ResponseCode, d.ResolvedIP, d.Answers = a.Code, a.Addresses, nil
	for _, r := range a.Records {
		d.Answers = append(d.Answers, event.DNSRecord{Name: r.Name, Type: r.Type, Class: r.Class, TTL: r.TTL, Data: r.Data})
	}
	h.DNS = &d
	to := &event.Answer{
		Timestamp: a.Time, Trace: event.Reference{ID: a.Trace}, Line: a.Line, TID: a.TID,
		Server: event.Endpoint{IP: a.From.Addr(), Port: a.From.Port()}, Truncated: a.Truncated, Missing: a.Missing, MoreConnections: a.More,
	}
	for _, c := range a.Connections {
		to.Connections = append(to.Connections, event.Connection{
			Timestamp: c.Time, Trace: event.Reference{ID: c.Trace}, Line: c.Line, TID: c.TID, Destination: event.Endpoint{IP: c.To.Addr(), Port: c.To.Port()},
			Transport: c.Transport, Error: c.Error, Bytes: c.Bytes, Child: c.Child, Also: c.Also,
		})
	}
	h.Culprit.Answer = to
}

// unanswered says why a hit has no answer, or "" if it has one or asked nothing.
func unanswered(h *event.Hit, traces []event.Trace) string {
	if h.DNS == nil || h.Culprit.Answer != nil {
		return ""
	}
	removed := (*event.Removed)(nil)
	running, any := false, false
	for i := range traces {
		t := &traces[i]
		if h.Process == nil || h.Process.EntityID != t.Process.EntityID {
			continue
		}
		if t.Culprit.Removed != nil {
			removed = t.Culprit.Removed
			continue
		}
		any, running = true, running || t.Culprit.State == event.StateRunning
	}
	switch {
	case running:
		return "none in its traces so far"
	case any:
		return "none in its traces: it came later, or not at all, or by a call whose line does not show it"
	case removed != nil:
		return "not known: its trace was removed: " + words.Removed(*removed)
	}
	return "not known: its process has no trace"
}
