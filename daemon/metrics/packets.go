package metrics

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"culprit/internal/container"
	"culprit/internal/event"
)

// packets counts what the firewall logs.
type packets struct {
	hits     *prometheus.CounterVec
	inside   *prometheus.CounterVec
	missing  *prometheus.CounterVec // out of containers
	repeats  prometheus.Counter
	lost     *prometheus.CounterVec
	ignored  *prometheus.CounterVec
	overruns prometheus.Counter
}

func newPackets(r factory, waiting func() int) packets {
	r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "culprit_packets_waiting", Help: "Packets that wait, at most nflog.queue.",
	}, func() float64 { return float64(waiting()) }))
	hits := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "culprit_hits_total", Help: "Hits, by rule and by the first grade of their origin.",
	}, []string{"rule", "origin"})
	r.MustRegister(hits)
	runtimes := append(container.Runtimes(), unknownRuntime, claimedContainer)
	inside := counters(r, "culprit_container_hits_total", "Hits out of containers, by runtime.", "runtime", runtimes...)
	return packets{
		hits:     hits,
		inside:   inside,
		missing:  counters(r, "culprit_container_packets_lost_total", "Packets out of containers that matched a rule but were not kept, by runtime.", "runtime", runtimes...),
		repeats:  r.counter("culprit_hit_repeats_total", "Packets that repeated a hit within a second, and are counted with it."),
		lost:     counters(r, "culprit_packets_lost_total", "Packets that matched a rule but were not kept.", "reason", event.LossKernel, event.LossQueue, event.LossRate, event.LossCut, event.LossOthers),
		ignored:  counters(r, "culprit_packets_ignored_total", "Packets of our NFLOG group that are no hits.", "reason", event.LossUnverified, event.LossForeign),
		overruns: r.counter("culprit_nflog_overruns_total", "Overruns of the netlink buffer that carries the packets."),
	}
}

// Rules names the rules in force: from now on each has its series, even before its first hit.
func (p *packets) Rules(names []string) {
	for _, name := range names {
		for _, g := range grades {
			p.hits.WithLabelValues(name, string(g))
		}
	}
}

// Hit counts a hit.
func (p *packets) Hit(rule string, origin event.Grade) {
	p.hits.WithLabelValues(rule, string(origin)).Inc()
}

// Labels of hits out of containers, beside the runtimes.
const (
	unknownRuntime   = "unknown" // the path of the cgroup does not tell
	claimedContainer = "claimed" // see event.Container
)

// InContainer counts a hit out of a container.
func (p *packets) InContainer(c *event.Container) { p.inside.WithLabelValues(runtimeOf(c)).Inc() }

// LostInContainer counts packets out of a container, which [packets.Lost] has counted, too.
func (p *packets) LostInContainer(c *event.Container, n uint64) {
	p.missing.WithLabelValues(runtimeOf(c)).Add(float64(n))
}

func runtimeOf(c *event.Container) string {
	switch {
	case c.Claimed:
		return claimedContainer
	case slices.Contains(container.Runtimes(), c.Runtime):
		return c.Runtime
	default:
		return unknownRuntime
	}
}

// Repeated counts the repetitions of a hit's packet, which came count times in all.
func (p *packets) Repeated(count int) { p.repeats.Add(float64(count - 1)) }

// Lost counts losses of the trigger. Other losses have metrics of their own.
func (p *packets) Lost(d event.LossDetail) {
	n := float64(d.Count)
	switch d.Code {
	case event.LossKernel, event.LossQueue, event.LossRate, event.LossCut, event.LossOthers:
		p.lost.WithLabelValues(string(d.Code)).Add(n)
	case event.LossUnverified, event.LossForeign:
		p.ignored.WithLabelValues(string(d.Code)).Add(n)
	case event.LossOverruns:
		p.overruns.Add(n)
	}
}
