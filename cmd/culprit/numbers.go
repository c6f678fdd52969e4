package main

import (
	"context"
	"io"
	"net"

	"culprit/capture"
	"culprit/daemon/metrics"
	"culprit/evidence"
	"culprit/internal/config"
	"culprit/internal/event"
	"culprit/trigger"
)

// numbers are the metrics, told in the words of the packages that are counted.
type numbers struct{ *metrics.Metrics }

// words are the labels that those packages choose.
func words() metrics.Words {
	return metrics.Words{
		Failures: capture.Failures(), Untraced: capture.UntracedReasons(), Tables: evidence.Tables(),
		Evictions: []string{evidence.RemovedTrace, evidence.RemovedPackets},
		Reasons:   []string{evidence.RemovedKeep, evidence.RemovedMaxBytes, evidence.RemovedMinFree},
	}
}

// newNumbers makes the numbers of a daemon. The listener is nil if nobody is to read
// them; otherwise it listens already.
func newNumbers(ctx context.Context, c *config.Config, store *evidence.Store, packets *trigger.Listener) (numbers, net.Listener, error) {
	n := numbers{metrics.New(version, commit, words())}
	n.inForce(c)
	n.Reloaded(true)
	n.Store(func() metrics.Catalogue { return metrics.Catalogue(store.Counts()) })
	n.Waiting(packets.Waiting)
	network, address, err := c.Metrics.Address()
	if err != nil || network == "" {
		return n, nil, err
	}
	l, err := metrics.Listen(ctx, network, address)
	return n, l, err
}

// inForce takes in a configuration that is now in force.
func (n numbers) inForce(c *config.Config) {
	var names []string
	for _, r := range c.Rules {
		names = append(names, r.Name)
	}
	n.Rules(names)
	n.Bounds(int64(c.Evidence.MaxBytes), int64(c.Evidence.MinFree))
}

// lost counts what the trigger has lost.
func (n numbers) lost(l event.Loss) {
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
func (n numbers) swept(r evidence.Report, err error) {
	s := metrics.Sweep{Evictions: map[[2]string]int{}, Expired: r.Expired}
	s.Bytes, s.Free = r.Left()
	for _, one := range r.Removed {
		what, why := one.Words()
		s.Evictions[[2]string{what, why}]++
	}
	n.Swept(s, err)
}

// loops are those that have to turn.
func loops(listener *trigger.Listener, controller *capture.Controller) []metrics.Loop {
	return []metrics.Loop{{Name: "packets", Turns: listener.Turns}, {Name: "captures", Turns: controller.Turns}}
}

// Repeated records how often the packet of a hit was seen.
func (h *hunter) Repeated(id string, count int) {
	h.numbers.Repeated(count)
	h.Store.Repeated(id, count)
}

// Create makes the file of a trace.
func (h *hunter) Create(t *event.Trace) (io.WriteCloser, error) {
	f, err := h.Store.Create(t)
	if err != nil {
		return nil, err
	}
	return h.numbers.TraceFile(f), nil
}

// Trace records a new or changed trace.
func (h *hunter) Trace(t event.Trace) {
	if t.Culprit.State == event.StateEnded { // it is told of that once
		h.numbers.TraceDropped(t.Culprit.Lost)
	}
	h.Store.Trace(t)
}
