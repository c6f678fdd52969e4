package bundles

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"culprit/evidence/catalogue"
	"culprit/internal/config"
)

// byRule gives the captures that the configuration says. What has no room is tried again once there is.
func (g *Giver) byRule(ctx context.Context) error {
	if g.Rule == config.BundlesRequest || time.Now().Before(g.again) {
		return nil
	}
	due, err := g.due(ctx)
	if err != nil || len(due) == 0 {
		return err
	}
	left := int64(0)
	if len(g.needs) > 0 {
		if left, _, err = g.Conn.Room(ctx, g.bucket()); err != nil {
			return err
		}
	}
	for _, id := range due {
		needs, told := g.needs[id]
		if needs > left {
			g.again = time.Now().Add(retryWait)
			continue
		}
		err := g.give(ctx, id, false)
		var why refusal
		switch {
		case errors.As(err, &why):
			if !told {
				g.Log.Warn("a bundle of a capture is not given", "capture", id, "reason", why.why)
			}
			if !why.full {
				break
			}
			g.again = time.Now().Add(retryWait)
			if g.needs[id] == 0 {
				return nil
			}
			continue
		case errors.Is(err, errNotEnded):
			continue
		case err != nil:
			return err
		}
		g.given[id] = true
		g.close(id)
	}
	return nil
}

// due lists the captures to give by rule, oldest first. The first look is at those of a week, a later one at what began since, at what
// is open, and at what has got proofs since: a proof can come long after the end of its capture.
func (g *Giver) due(ctx context.Context) (ids []string, err error) {
	proven, many := g.Proofs.take()
	for _, id := range proven {
		if !g.given[id] {
			g.open[id] = true
		}
	}
	if many {
		g.looked = time.Time{}
	}
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
	return proven, proven, err
}

// close forgets a capture that is open no more.
func (g *Giver) close(id string) {
	delete(g.open, id)
	delete(g.needs, id)
}
