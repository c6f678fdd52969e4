// Package dossier makes what a person gets of a capture: the report, the packets, and a bundle of
// everything.
package dossier

import (
	"iter"
	"time"

	"culprit/evidence/catalogue"
	"culprit/evidence/dossier/report"
	"culprit/internal/event"
	"culprit/internal/words"
)

// Bounds of what is read for a report. The rest is counted.
const (
	caseHits     = 20_000
	caseTraces   = 5_000
	casePrograms = 20_000
	caseProofs   = 20_000
	caseUnproven = 500
	caseForwards = 1000
	caseLosses   = 5000 // the rest is added up

	caseSnapshots = 100

	caseStories  = 3  // programs whose steps are shown
	caseFollowed = 12 // programs whose packets are followed
)

// Case reads all that the report of a capture shows.
func Case(r *catalogue.Reader, c event.Capture) (*report.Case, error) {
	rc := &report.Case{
		Capture: c, Excerpts: map[string]report.Excerpt{}, Unproven: map[string]string{}, Unanswered: map[string]string{},
		Made: time.Now(), Strace: c.Culprit.Strace, Config: c.Culprit.Config,
	}
	if c.Observer != nil {
		rc.Culprit = c.Observer.Version
	}
	if c.Host != nil {
		rc.Host, rc.Kernel = c.Host.String(), c.Host.OS.Kernel
	}
	of := catalogue.Filter{Capture: c.Event.ID}
	var err error
	if rc.Hits, rc.HitsLeftOut, err = some(r.Hits(of), caseHits); err != nil {
		return nil, err
	}
	if rc.Forwards, err = forwards(r, &c); err != nil {
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
	if rc.Snapshots, rc.SnapshotsLeftOut, err = some(r.Snapshots(of), caseSnapshots); err != nil {
		return nil, err
	}
	if rc.Losses, err = lossesOf(r, &c); err != nil {
		return nil, err
	}
	until := provenUntil(r, rc.Made)
	for i := range rc.Hits[:min(len(rc.Hits), caseUnproven)] {
		h := &rc.Hits[i]
		if why := unproven(h, rc.Traces, rc.Programs, until); why != "" {
			rc.Unproven[h.Event.ID] = why
		}
	}
	stories(rc)
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

// lossesOf returns the losses of the time of a capture. A user who floods the machine for weeks
// makes one a second.
func lossesOf(r *catalogue.Reader, c *event.Capture) (all []event.Loss, err error) {
	var more []event.Loss
	for l, err := range r.Losses(catalogue.Filter{Since: c.Timestamp, Host: hostOf(c)}) {
		switch {
		case err != nil:
			return nil, err
		case c.Event.End != nil && !l.Timestamp.Before(c.Event.End.Add(time.Second)):
		case len(all) < caseLosses:
			all = append(all, l)
		default:
			if more = append(more, l); len(more) > caseLosses {
				more = catalogue.SumLosses(more)
			}
		}
	}
	return append(all, catalogue.SumLosses(more)...), nil
}

// forwards returns the hits of packets in which local resolvers forwarded questions while a
// capture ran.
func forwards(r *catalogue.Reader, c *event.Capture) (all []event.Hit, err error) {
	var until time.Time
	if c.Event.End != nil {
		until = c.Event.End.Add(time.Minute)
	}
	for h, err := range r.Forwards(c.Timestamp.Add(-time.Second), until, hostOf(c)) {
		if err != nil {
			return nil, err
		}
		if len(all) < caseForwards {
			all = append(all, h)
		}
	}
	return all, nil
}

// hostOf is the host of a capture in the mirror of a fleet, and "" in the evidence of one machine.
func hostOf(c *event.Capture) string {
	if c.Host == nil {
		return ""
	}
	return c.Host.Name
}

// some collects the first of a sequence, at most that many, and counts the rest.
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
