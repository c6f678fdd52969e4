package daemon

import (
	"context"
	"log/slog"
	"net"

	"culprit/daemon/metrics"
	"culprit/evidence"
	"culprit/internal/config"
	"culprit/trigger"
)

// counts are the metrics, told in the words of the packages that are counted.
type counts struct{ *metrics.Metrics }

// newCounts makes the counts of a daemon, and listens for those who read them if the
// configuration says where.
func newCounts(ctx context.Context, c *config.Config, o Options, store *evidence.Store, listener *trigger.Listener) (*counts, *scrapes, error) {
	n := &counts{metrics.New(metrics.Source{
		Version: o.Version, Commit: o.Commit, Tables: evidence.Tables(),
		Waiting:   listener.Waiting,
		Catalogue: func() metrics.Catalogue { return metrics.Catalogue(store.Counts()) },
	})}
	n.configured(c)
	n.Reloaded(true)
	network, address, err := c.Metrics.Address()
	if err != nil || network == "" {
		return n, &scrapes{counts: n}, err
	}
	l, err := metrics.Listen(ctx, network, address)
	return n, &scrapes{n, l}, err
}

// configured takes in a configuration that is now in force.
func (n *counts) configured(c *config.Config) {
	var names []string
	for _, r := range c.Rules {
		names = append(names, r.Name)
	}
	n.Rules(names)
	n.Bounds(int64(c.Evidence.MaxBytes), int64(c.Evidence.MinFree))
}

// swept counts what a sweep of the evidence has removed.
func (n *counts) swept(r evidence.Report, err error) {
	s := metrics.Sweep{Evictions: map[metrics.Eviction]int{}, Expired: r.Expired}
	s.Bytes, s.Free = r.Left()
	for _, one := range r.Removed {
		s.Evictions[metrics.Eviction{File: one.What(), Reason: one.Why}]++
	}
	n.Swept(s, err)
}

// scrapes are how others read the counts.
type scrapes struct {
	counts   *counts
	listener net.Listener // nil: nobody does
}

// serve answers until the context ends.
func (s *scrapes) serve(ctx context.Context, log *slog.Logger, loops []metrics.Loop) {
	if s.listener != nil {
		s.counts.Serve(ctx, s.listener, log, loops...)
	}
}

// loops are those that have to turn.
func (d *daemon) loops() []metrics.Loop {
	return []metrics.Loop{{Name: "packets", Turns: d.listener.Turns}, {Name: "captures", Turns: d.controller.Turns}}
}
