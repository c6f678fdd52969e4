package evidence

import (
	"fmt"
	"iter"
	"strings"
	"time"

	"culprit/evidence/dossier/report"
	"culprit/evidence/proof"
	"culprit/evidence/tracefile"
	"culprit/internal/event"
	"culprit/internal/text"
	"culprit/internal/words"
)

// How many lines of the same thread an excerpt shows before and after a proven one.
const linesAround = 12

// Excerpt reads the lines of a trace that explain a proof.
func Excerpt(path string, p event.ProofDetail) (proof.Story, error) {
	f, err := tracefile.Open(path)
	if err != nil {
		return proof.Story{}, err
	}
	defer f.Close()
	return proof.Excerpt(f, p.TID, p.Line, linesAround, linesAround)
}

// Bounds of what is read for a report. What is more is counted.
const (
	caseHits     = 20_000
	caseTraces   = 5_000
	casePrograms = 20_000
	caseProofs   = 20_000
	caseUnproven = 500
	caseForwards = 1000
	caseLosses   = 5000 // one by one; those after them are added up
)

// Case reads all that a report tells of a capture.
func (r *Reader) Case(c event.Capture) (*report.Case, error) {
	rc := &report.Case{
		Capture: c, Excerpts: map[string]report.Excerpt{}, Unproven: map[string]string{},
		Made: time.Now(), Strace: c.Culprit.Strace, Config: c.Culprit.Config,
	}
	if c.Observer != nil {
		rc.Culprit = c.Observer.Version
	}
	if c.Host != nil {
		rc.Host, rc.Kernel = c.Host.Hostname, c.Host.OS.Kernel
	}
	of := Filter{Capture: c.Event.ID}
	var err error
	if rc.Hits, rc.HitsLeftOut, err = some(r.Hits(of), caseHits); err != nil {
		return nil, err
	}
	if rc.Forwards, err = r.forwards(&c); err != nil {
		return nil, err
	}
	if rc.Traces, rc.TracesLeftOut, err = some(r.Traces(of), caseTraces); err != nil {
		return nil, err
	}
	if rc.Programs, rc.ProgramsLeftOut, err = some(r.Programs(of), casePrograms); err != nil {
		return nil, err
	}
	if rc.Proofs, rc.ProofsLeftOut, err = some(r.Proofs(of), caseProofs); err != nil {
		return nil, err
	}
	if rc.Losses, err = r.lossesOf(&c); err != nil {
		return nil, err
	}
	until := r.provenUntil(rc.Made)
	for i := range rc.Hits[:min(len(rc.Hits), caseUnproven)] {
		h := &rc.Hits[i]
		if why := unproven(h, rc.Traces, rc.Programs, until); why != "" {
			rc.Unproven[h.Event.ID] = why
		}
	}
	removed := map[string]*event.Removed{}
	for _, t := range rc.Traces {
		removed[t.Event.ID] = t.Culprit.Removed
	}
	for _, p := range rc.Shown() {
		if why := removed[p.Culprit.Trace.ID]; why != nil {
			rc.Excerpts[p.Event.ID] = report.Excerpt{Missing: "the trace was removed: " + words.Removed(*why)}
			continue
		}
		rc.Excerpts[p.Event.ID] = excerpt(p)
	}
	return rc, nil
}

// lossesOf are the losses that were noticed while a capture lived. A user who floods the
// machine for weeks makes one a second.
func (r *Reader) lossesOf(c *event.Capture) (all []event.Loss, err error) {
	var more []event.Loss
	for l, err := range r.Losses(Filter{Since: c.Timestamp}) {
		switch {
		case err != nil:
			return nil, err
		case c.Event.End != nil && !l.Timestamp.Before(c.Event.End.Add(time.Second)):
		case len(all) < caseLosses:
			all = append(all, l)
		default:
			if more = append(more, l); len(more) > 2*maxLosses {
				more = sum(more)
			}
		}
	}
	return append(all, sum(more)...), nil
}

// forwards are the hits by which local resolvers sent on what a capture's hits asked.
func (r *Reader) forwards(c *event.Capture) (all []event.Hit, err error) {
	of := Filter{Since: c.Timestamp.Add(-time.Second), alone: true}
	if c.Event.End != nil {
		of.until = c.Event.End.Add(time.Minute)
	}
	for h, err := range r.Hits(of) {
		if err != nil {
			return nil, err
		}
		if h.Culprit.ForwardedFrom != nil && len(all) < caseForwards {
			all = append(all, h)
		}
	}
	return all, nil
}

// some collects the first of a sequence and counts the rest.
func some[T any](seq iter.Seq2[T, error], most int) (all []T, rest int, err error) {
	for v, err := range seq {
		if err != nil {
			return nil, 0, err
		}
		if len(all) < most {
			all = append(all, v)
		} else {
			rest++
		}
	}
	return all, rest, nil
}

func excerpt(p event.Proof) report.Excerpt {
	story, err := Excerpt(p.File.Path, p.Culprit)
	if err != nil {
		return report.Excerpt{Missing: err.Error()}
	}
	e := report.Excerpt{Note: ForkedBy(story)}
	for _, l := range story.Lines {
		if l.Cut > 0 {
			l.Text += fmt.Sprintf("… (%s more)", text.Size(l.Cut))
		}
		e.Lines = append(e.Lines, report.Line{Number: l.Number, Text: l.Text, Proof: l.Proof, Gap: l.Gap})
	}
	return e
}

// ForkedBy says for people how a story's thread came to be: "thread 815, forked by 812
// at line 20", or "" if the trace does not show it.
func ForkedBy(s proof.Story) string {
	var b strings.Builder
	for i, f := range s.Forks {
		if i == 0 {
			fmt.Fprintf(&b, "thread %d", f.TID)
		}
		fmt.Fprintf(&b, ", forked by %d at line %d", f.Parent, f.Line)
	}
	return b.String()
}
