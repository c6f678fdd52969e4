package catalogue

import (
	"context"
	"io/fs"
	"path"
	"path/filepath"
	"strings"

	"culprit/evidence/directory"
	"culprit/evidence/tracefile"
	"culprit/internal/event"
	"culprit/internal/text"
)

// unclean returns when a culprit that was killed was last alive, as text: since then nothing was
// watched. It returns "" if the last one ended in good order.
func unclean(d *directory.Directory) string {
	last, unclean := d.Unclean()
	if !unclean {
		return ""
	}
	for _, suffix := range suffixes {
		if info, err := d.Root().Stat(fileName + suffix); err == nil && info.ModTime().After(last) {
			last = info.ModTime()
		}
	}
	return text.Time(last)
}

// endedKilled says why what a killed culprit ran has ended.
func endedKilled() *event.Ended { return &event.Ended{Code: event.EndedKilled} }

// markLost marks the captures and traces that a killed daemon left running, including traces
// that it had not put into the catalogue yet. It returns the captures.
func (c *Catalogue) markLost() (lost []event.Capture, err error) {
	r := c.own()
	for capture, err := range r.Captures(Filter{unfinished: true}) {
		if err != nil {
			return nil, err
		}
		capture.Culprit.State, capture.Culprit.EndedBecause = event.StateLost, endedKilled()
		lost = append(lost, capture)
	}
	var traces []event.Trace
	for t, err := range r.Traces(Filter{unfinished: true, NoProofs: true}) {
		if err != nil {
			return nil, err
		}
		t.Culprit.State, t.Culprit.EndedBecause = event.StateLost, endedKilled()
		if size, err := c.dir.MarkPartial(t.File.Path, endedKilled()); err == nil {
			t.File.Size = size
		}
		traces = append(traces, t)
	}
	orphans, err := c.orphans(r)
	if err != nil {
		return nil, err
	}
	return lost, c.change(context.Background(), func(t *transaction) {
		for _, capture := range lost {
			t.putCapture(capture)
		}
		for _, trace := range append(traces, orphans...) {
			t.putTrace(trace)
		}
	})
}

// orphans finds trace files that are not in the catalogue, as the daemon was killed before it
// could put them there. It marks them as partial.
func (c *Catalogue) orphans(r *Reader) (orphans []event.Trace, err error) {
	known, err := r.ids("SELECT id FROM traces")
	if err != nil {
		return nil, err
	}
	captures := map[string]event.Capture{} // of the orphans
	captureOf := func(id string) event.Capture {
		if of, ok := captures[id]; ok {
			return of
		}
		of := event.Capture{Event: event.Meta{ID: id}}
		for there, err := range r.Captures(Filter{Capture: id}) {
			if err == nil {
				of = there
			}
		}
		captures[id] = of
		return of
	}
	err = fs.WalkDir(c.dir.Root().FS(), directory.Traces, func(name string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return nil // it has gone, or is not ours
		}
		plain, compressed := strings.CutSuffix(name, tracefile.Suffix)
		pid, id, ok := directory.ParseName(path.Base(plain))
		if !ok || known[id.String()] {
			return nil
		}
		file, because := filepath.Join(c.dir.Path(), plain), &event.Ended{Code: event.EndedDamaged}
		var size int64
		if !compressed { // a compressed one has ended
			because = endedKilled()
			if size, err = c.dir.MarkPartial(file, because); err != nil {
				return nil
			}
		}
		known[id.String()] = true
		of := captureOf(path.Base(path.Dir(name)))
		start := id.Timestamp()
		orphans = append(orphans, event.Trace{
			Timestamp: start,
			Event:     event.Meta{ID: id.String(), Kind: "event", Action: event.ActionTrace, Start: &start},
			Rule:      of.Rule, User: of.User,
			Process: event.Process{PID: pid},
			File:    event.File{Path: file, Size: size},
			Culprit: event.TraceDetail{
				Capture: event.Reference{ID: of.Event.ID}, Hit: of.Culprit.FirstHit,
				State: event.StateLost, EndedBecause: because,
			},
		})
		return nil
	})
	return orphans, err
}
