package daemon

import (
	"context"
	"log/slog"
	"net"

	"culprit/capture"
	"culprit/daemon/metrics"
	"culprit/evidence"
	"culprit/internal/config"
	"culprit/internal/event"
	"culprit/trigger"
)

// counts are the metrics, told in the words of the packages that are counted.
type counts struct{ *metrics.Metrics }

// words are the labels that those packages choose.
func words() metrics.Words {
	return metrics.Words{
		Failures: capture.Failures(), Untraced: capture.UntracedReasons(), Tables: evidence.Tables(),
		Evictions: []string{evidence.RemovedTrace, evidence.RemovedPackets},
		Reasons:   []string{evidence.RemovedKeep, evidence.RemovedMaxBytes, evidence.RemovedMinFree},
	}
}

// newCounts makes the counts of a daemon, and listens for those who read them if the
// configuration says where.
func newCounts(ctx context.Context, c *config.Config, o Options, store *evidence.Store, listener *trigger.Listener) (*counts, *scrapes, error) {
	n := &counts{metrics.New(o.Version, o.Commit, words())}
	n.configured(c)
	n.Reloaded(true)
	n.Store(func() metrics.Catalogue { return metrics.Catalogue(store.Counts()) })
	n.Waiting(listener.Waiting)
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

// lost counts what the trigger has lost.
func (n *counts) lost(l event.Loss) {
	switch count := l.Culprit.Count; l.Culprit.What {
	case trigger.LostKernel:
		n.Lost(metrics.ByKernel, count)
	case trigger.LostQueue:
		n.Lost(metrics.ByQueue, count)
	case trigger.LostRate:
		n.Lost(metrics.ByRate, count)
	case trigger.LostUnverified:
		n.Ignored(metrics.IgnoredUnverified, count)
	case trigger.LostForeign:
		n.Ignored(metrics.IgnoredForeign, count)
	case trigger.LostOverruns:
		n.Overruns(count)
	}
}

// swept counts what a sweep of the evidence has removed.
func (n *counts) swept(r evidence.Report, err error) {
	s := metrics.Sweep{Evictions: map[[2]string]int{}, Expired: r.Expired}
	s.Bytes, s.Free = r.Left()
	for _, one := range r.Removed {
		what, why := one.Words()
		s.Evictions[[2]string{what, why}]++
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
