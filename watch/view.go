package watch

import (
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"

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
	proofs   map[string]bool
	lastHit  string // the id of the last hit
	newHits  int    // since then
	proven   int    // since then
	lost     uint64 // since then
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
	if err := v.lookHits(first, tell); err != nil {
		return err
	}
	if err := v.lookCaptures(first, tell); err != nil {
		return err
	}
	if err := v.lookProofs(first, tell); err != nil {
		return err
	}
	return v.lookLosses(first, tell)
}

// lookHits reads hits in chunks, so that hits which came while the reader of our output was
// slow do not fill the memory, and the catalogue does not wait for that reader.
func (v *view) lookHits(first bool, tell notify) error {
	for {
		var f catalogue.Filter
		if first {
			f.Last = keepHits
		} else if v.lastHit != "" {
			id, err := ulid.Parse(v.lastHit)
			if err != nil {
				return fmt.Errorf("read the id of a hit: %w", err)
			}
			f.Since = id.Timestamp()
		}
		var hits []event.Hit
		for h, err := range v.r.Hits(f) {
			if err != nil {
				return err
			}
			if h.Event.ID <= v.lastHit {
				continue // of the same millisecond
			}
			if hits = append(hits, h); len(hits) == chunk {
				break
			}
		}
		for i := range hits {
			h := &hits[i]
			h.Packet = nil // not shown
			v.lastHit = h.Event.ID
			if !first {
				v.newHits++
				tell(h.Timestamp, "hit", hitLine(h))
			}
		}
		v.hits = append(v.hits, hits...)
		v.hits = slices.Clone(v.hits[max(0, len(v.hits)-keepHits):])
		if len(hits) < chunk {
			return nil
		}
	}
}

func (v *view) lookCaptures(first bool, tell notify) error {
	known := map[string]*captureView{}
	for _, w := range v.captures {
		known[w.Event.ID] = w
	}
	var captures []*captureView
	for c, err := range v.r.Captures(catalogue.Filter{Last: keepCaptures}) {
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

// lookProofs adds proofs to the hits. Proofs are not always recorded in the order of their ids.
func (v *view) lookProofs(first bool, tell notify) error {
	var fresh []event.Proof
	proofs := map[string]bool{}
	for p, err := range v.r.Proofs(catalogue.Filter{Last: keepProofs}) {
		if err != nil {
			return err
		}
		proofs[p.Event.ID] = true
		if !v.proofs[p.Event.ID] {
			fresh = append(fresh, p)
		}
	}
	v.proofs = proofs
	if first {
		return nil
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

func (v *view) lookLosses(first bool, tell notify) error {
	known := map[string]bool{}
	for _, l := range v.losses {
		known[l.Event.ID] = true
	}
	var losses []event.Loss
	for l, err := range v.r.Losses(catalogue.Filter{Last: keepLosses}) {
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
