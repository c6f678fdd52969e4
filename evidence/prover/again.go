package prover

import (
	"fmt"
	"io"
	"slices"
	"time"

	"culprit/evidence/catalogue"
	"culprit/evidence/proof"
	"culprit/evidence/tracefile"
	"culprit/internal/event"
)

// Checked says what [Again] did.
type Checked struct {
	Captures, Traces, Hits int
	Found                  int     // new proofs
	Unread                 []error // one for each trace that cannot be read
}

// Again looks once more for the lines that sent the packets of unproven hits, in the traces of
// one capture, or of all if capture is "".
func Again(r *catalogue.Reader, capture string, out Output) (Checked, error) {
	var done Checked
	captures, err := catalogue.All(r.Captures(catalogue.Filter{Capture: capture}))
	if err != nil {
		return done, err
	}
	for _, c := range captures {
		if err := done.capture(r, c.Event.ID, out); err != nil {
			return done, err
		}
		out.Settled(c)
		done.Captures++
	}
	return done, nil
}

func (done *Checked) capture(r *catalogue.Reader, capture string, out Output) error {
	var hits []*event.Hit // unproven, by time
	for h, err := range r.Hits(catalogue.Filter{Capture: capture}) {
		if err != nil {
			return err
		}
		done.Hits++
		if h.Culprit.Proof == nil {
			hits = append(hits, &h)
		}
	}
	traces, err := catalogue.All(r.Traces(catalogue.Filter{Capture: capture}))
	if err != nil {
		return err
	}
	for _, t := range traces {
		done.Traces++
		proven, err := compareTrace(t, hits, out)
		if err != nil {
			done.Unread = append(done.Unread, fmt.Errorf("read trace %s: %w", t.Event.ID, err))
		}
		done.Found += len(proven)
		hits = slices.DeleteFunc(hits, func(h *event.Hit) bool { return proven[h.Event.ID] })
	}
	return nil
}

// compareTrace compares a trace with hits, and returns the ids of those that it proves. It feeds
// hits and lines to the matcher in the order of time, as a matcher remembers neither for long.
func compareTrace(t event.Trace, hits []*event.Hit, out Output) (proven map[string]bool, err error) {
	proven = map[string]bool{}
	f, err := tracefile.Open(t.File.Path)
	if err != nil {
		return proven, err
	}
	defer f.Close()
	matcher := proof.NewMatcher()
	record := func(matches []proof.Match) {
		for _, m := range matches {
			proven[m.Hit.Event.ID] = true
			out.Proof(newProof(t, m))
		}
	}
	until := func(at time.Time) {
		for len(hits) > 0 && !hits[0].Timestamp.After(at) {
			record(matcher.Hit(hits[0]))
			hits = hits[1:]
		}
	}
	scanner := newScanner(&t, func(send proof.Send) {
		until(send.Time.Add(time.Second))
		record(matcher.Send(t.Event.ID, send))
	})
	if _, err := io.Copy(scanner, f); err != nil {
		return proven, err
	}
	scanner.Close()
	until(time.Now())
	record(matcher.Close())
	return proven, nil
}
