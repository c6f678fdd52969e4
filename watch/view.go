package watch

import (
	"os"
	"slices"
	"time"

	"culprit/evidence/catalogue"
	"culprit/internal/event"
	"culprit/internal/words"
)

// How much a view keeps, and how many hits it reads at a time.
const (
	keepCaptures = 50
	keepHits     = 200
	keepProofs   = 200
	keepLosses   = 100
	chunk        = 1000
)

// view is what watch has seen of the evidence. [view.look] updates it.
type view struct {
	r      *catalogue.Reader
	dir    string
	since  time.Time // the first look; zero: none yet
	daemon string    // whether it is running

	captures []*captureView // oldest first
	hits     []event.Hit    // oldest first
	losses   []event.Loss   // oldest first
	arrived  int64          // the number of the last arrival that was looked at
	newHits  int            // since then
	proven   int            // since then
	lost     uint64         // since then
}

// captureView is a capture with a summary of its traces.
type captureView struct {
	event.Capture
	straces int // running now
	bytes   int64
	states  map[string]string // of its traces, by id
}

func (w *captureView) finished() bool {
	return w.Culprit.State != event.StateRunning && w.Culprit.State != event.StateDraining
}

func newView(r *catalogue.Reader, dir string) *view { return &view{r: r, dir: dir} }

// look reads what has changed since the last look. The first look reports only what is running,
// not the whole history.
func (v *view) look(tell notify) error {
	first := v.since.IsZero()
	if first {
		v.since = time.Now()
	}
	if daemon := daemonState(v.dir); daemon != v.daemon {
		v.daemon = daemon
		tell(time.Now(), "culprit", daemon)
	}
	// By arrival, not by time: in the mirror of a fleet the clock of a host may be wrong, and an earlier hit come later.
	upTo, err := v.r.Arrived()
	if err != nil {
		return err
	}
	if upTo < v.arrived { // another catalogue is in its place
		v.arrived, first = 0, true
	}
	all, fresh := catalogue.Arrivals{UpTo: upTo}, catalogue.Arrivals{After: v.arrived, UpTo: upTo}
	if err := v.lookHits(first, fresh, tell); err != nil {
		return err
	}
	if err := v.lookCaptures(first, all, tell); err != nil {
		return err
	}
	if !first {
		if err := v.lookProofs(fresh, tell); err != nil {
			return err
		}
	}
	if err := v.lookLosses(first, all, tell); err != nil {
		return err
	}
	v.arrived = upTo
	return nil
}

// lookHits reads hits in chunks, so that hits which came while the reader of our output was
// slow do not fill the memory, and the catalogue does not wait for that reader.
func (v *view) lookHits(first bool, fresh catalogue.Arrivals, tell notify) error {
	for fresh.After < fresh.UpTo {
		f := catalogue.Filter{Arrived: fresh}
		if first {
			f.Last = keepHits
		} else {
			var err error
			if f.Arrived, err = v.r.NextHits(fresh, chunk); err != nil {
				return err
			}
		}
		hits, err := catalogue.All(v.r.Hits(f))
		if err != nil {
			return err
		}
		for i := range hits {
			h := &hits[i]
			h.Packet = nil // not shown
			if !first {
				v.newHits++
				tell(h.Timestamp, "hit", hitLine(h))
			}
		}
		v.hits = append(v.hits, hits...)
		v.hits = slices.Clone(v.hits[max(0, len(v.hits)-keepHits):])
		fresh.After = f.Arrived.UpTo
	}
	return nil
}

func (v *view) lookCaptures(first bool, all catalogue.Arrivals, tell notify) error {
	known := map[string]*captureView{}
	for _, w := range v.captures {
		known[w.Event.ID] = w
	}
	var captures []*captureView
	for c, err := range v.r.Captures(catalogue.Filter{Last: keepCaptures, Arrived: all}) {
		if err != nil {
			return err
		}
		captures = append(captures, &captureView{Capture: c})
	}
	for _, w := range captures {
		old, at := known[w.Event.ID], time.Now()
		if old != nil && old.finished() {
			*w = *old
			continue
		}
		if old == nil {
			old, at = &captureView{}, w.Timestamp
		}
		quiet := first && w.finished()
		d, before := &w.Culprit, &old.Culprit
		if !quiet && (d.State != before.State || d.Level != before.Level || words.CaptureEnded(d.EndedBecause) != words.CaptureEnded(before.EndedBecause)) {
			tell(at, "capture", captureLine(&w.Capture))
		}
		w.states = old.states
		traces := tell
		if quiet {
			traces = func(time.Time, string, string) {}
		}
		if err := v.lookTraces(w, traces); err != nil {
			return err
		}
	}
	v.captures = captures
	return nil
}

// lookTraces reads the traces of one capture.
func (v *view) lookTraces(w *captureView, tell notify) error {
	states := map[string]string{}
	var changed []event.Trace // reported once the catalogue is closed again
	for t, err := range v.r.Traces(catalogue.Filter{Capture: w.Event.ID}) {
		if err != nil {
			return err
		}
		size := t.File.Size
		if t.Culprit.State == event.StateRunning {
			w.straces++
			if info, err := os.Lstat(t.File.Path); err == nil {
				size = info.Size()
			}
		}
		w.bytes += size
		states[t.Event.ID] = t.Culprit.State
		if w.states[t.Event.ID] != t.Culprit.State {
			changed = append(changed, t)
		}
	}
	for i := range changed {
		t, at := &changed[i], time.Now()
		if w.states[t.Event.ID] == "" {
			at = t.Timestamp
		}
		tell(at, "trace", traceLine(t))
	}
	if w.states = states; w.finished() {
		w.states = nil
	}
	return nil
}

// lookProofs adds proofs to the hits.
func (v *view) lookProofs(span catalogue.Arrivals, tell notify) error {
	fresh, err := catalogue.All(v.r.Proofs(catalogue.Filter{Last: keepProofs, Arrived: span}))
	if err != nil {
		return err
	}
	if len(fresh) == keepProofs {
		tell(time.Now(), "proof", "there may be more than these: see `culprit show CAPTURE`")
	}
	v.proven += len(fresh)
	for i := range fresh {
		p := &fresh[i]
		if at := slices.IndexFunc(v.hits, func(h event.Hit) bool { return h.Event.ID == p.Culprit.Hit.ID }); at >= 0 {
			h := &v.hits[at]
			h.Culprit.Proof = &p.Culprit
			if !p.Culprit.Probable {
				h.Process = &p.Process
			}
		}
		tell(time.Now(), "proof", proofLine(p))
	}
	return nil
}

func (v *view) lookLosses(first bool, all catalogue.Arrivals, tell notify) error {
	known := map[string]bool{}
	for _, l := range v.losses {
		known[l.Event.ID] = true
	}
	var losses []event.Loss
	for l, err := range v.r.Losses(catalogue.Filter{Last: keepLosses, Arrived: all}) {
		if err != nil {
			return err
		}
		losses = append(losses, l)
	}
	v.losses = losses
	for _, l := range losses {
		if !first && !known[l.Event.ID] {
			v.lost += l.Culprit.Count
			tell(l.Timestamp, "loss", words.Lost(l.Culprit))
		}
	}
	return nil
}
