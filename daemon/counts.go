package daemon

import (
	"context"
	"fmt"
	"net"

	"culprit/daemon/metrics"
	"culprit/evidence"
	"culprit/evidence/catalogue"
	"culprit/evidence/retention"
	"culprit/internal/config"
	"culprit/internal/listen"
	"culprit/sensor"
	"culprit/sensor/lookback"
	"culprit/trigger"
)

// counts are the metrics, with methods in the terms of the packages that they count.
type counts struct{ *metrics.Metrics }

func newCounts(c *config.Config, o Options, store *evidence.Store, listener *trigger.Listener, s *sensor.Sensor, memory *lookback.Recorder, filter *listFilter, m *member) *counts {
	n := &counts{metrics.New(metrics.Source{
		Version: o.Version, Commit: o.Commit, Tables: catalogue.Tables(),
		Waiting:   listener.Waiting,
		Catalogue: func() metrics.Catalogue { return metrics.Catalogue(store.Counts()) },
		Recorded:  memory.Recorded,
		Filtered:  filter.counts,
		Connected: m.connected,
		Sensor: func() metrics.Sensor {
			n := s.Counts()
			return metrics.Sensor{Way: string(s.Way()), Freezes: s.Freezes(), Lost: n.Lost, Unread: n.Unread, Unjoined: n.Unjoined, Unstopped: n.Unstopped}
		},
	})}
	n.configured(c)
	n.Reloaded(true)
	return n
}

// listenForMetrics listens for readers of the metrics. It returns nil if the configuration has
// no address.
func listenForMetrics(ctx context.Context, c config.Metrics) (net.Listener, error) {
	network, address, err := c.Address()
	if err != nil || network == "" {
		return nil, err
	}
	l, err := listen.On(ctx, network, address)
	if err != nil {
		return nil, fmt.Errorf("metrics.listen: %w", err)
	}
	return l, nil
}

// configured takes over a configuration that is now in force.
func (n *counts) configured(c *config.Config) {
	var names []string
	for _, r := range c.Rules {
		names = append(names, r.Name)
	}
	n.Rules(names)
	n.Bounds(int64(c.Evidence.MaxBytes), int64(c.Evidence.MinFree))
}

// swept counts what a sweep of the evidence removed.
func (n *counts) swept(r retention.Report, err error) {
	s := metrics.Sweep{Evictions: map[metrics.Eviction]int{}, Expired: r.Expired}
	s.Bytes, s.Free = r.Left()
	for _, one := range r.Removed {
		s.Evictions[metrics.Eviction{File: one.What(), Reason: one.Why}]++
	}
	n.Swept(s, err)
}

// serveMetrics serves the metrics until the context ends.
func (d *daemon) serveMetrics(ctx context.Context) {
	if d.readers != nil {
		d.counts.Serve(ctx, d.readers, d.log, d.loops()...)
	}
}

// loops are the loops that must turn.
func (d *daemon) loops() []metrics.Loop {
	return []metrics.Loop{{Name: "packets", Turns: d.listener.Turns}, {Name: "captures", Turns: d.controller.Turns}}
}
