package bundles

import (
	"context"
	"maps"
	"slices"
	"time"

	"culprit/evidence/catalogue"
	"culprit/internal/config"
)

// due lists the captures to give by rule, oldest first. The first look is at those of a week, a later one at what began since, and at what
// is open.
func (g *Giver) due(ctx context.Context) (ids []string, err error) {
	r, err := catalogue.OpenReader(g.Dir)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	r = r.Within(ctx)
	now := time.Now()
	since := g.looked.Add(-overlap)
	if g.looked.IsZero() || now.Before(g.looked) { // or the clock was set back
		since = now.Add(-lookBack)
	}
	given := map[string]bool{}
	for c, err := range r.Captures(catalogue.Filter{Since: since}) {
		if err != nil {
			return nil, err
		}
		if id := c.Event.ID; g.given[id] {
			given[id] = true
		} else {
			g.open[id] = true
		}
	}
	g.looked, g.given = now, given
	for _, id := range slices.Sorted(maps.Keys(g.open)) {
		wanted, open, err := g.wants(r, id)
		if err != nil {
			return nil, err
		}
		if wanted {
			ids = append(ids, id)
		}
		if !open {
			g.close(id)
		}
	}
	return ids, nil
}

// wants reports whether to give a capture now, and whether it stays open.
func (g *Giver) wants(r *catalogue.Reader, id string) (wanted, open bool, err error) {
	all, err := catalogue.All(r.Captures(catalogue.Filter{Capture: id}))
	if err != nil || len(all) == 0 { // it was removed
		return false, false, err
	}
	c := &all[0]
	if !ended(c) {
		return false, true, nil
	}
	if g.Rule == config.BundlesAll {
		return true, true, nil
	}
	proofs, err := catalogue.All(r.Proofs(catalogue.Filter{Capture: id, Last: 1}))
	proven := len(proofs) > 0
	return proven, proven || c.Event.End != nil && time.Since(*c.Event.End).Abs() < lateProof, err
}

// close forgets a capture that is open no more.
func (g *Giver) close(id string) {
	delete(g.open, id)
	delete(g.needs, id)
}
