package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"culprit/internal/event"
)

// Why packets are lost or no hits.
const (
	ByKernel = "kernel" // the netlink buffer was full
	ByQueue  = "queue"  // nflog.queue was
	ByRate   = "rate"   // nflog.rate was reached

	IgnoredUnverified = "unverified" // no question in the rule's domain
	IgnoredForeign    = "foreign"    // of no rule of ours
)

// packets counts what the firewall logs.
type packets struct {
	r        maker
	hits     *prometheus.CounterVec
	repeats  prometheus.Counter
	lost     *prometheus.CounterVec
	ignored  *prometheus.CounterVec
	overruns prometheus.Counter
}

func newPackets(r maker) packets {
	hits := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "culprit_hits_total", Help: "Hits, by rule and how sure their origin was at first.",
	}, []string{"rule", "origin"})
	r.MustRegister(hits)
	return packets{
		r:        r,
		hits:     hits,
		repeats:  r.counter("culprit_hit_repeats_total", "Packets that said the same as a hit within a second, and are counted with it."),
		lost:     r.counters("culprit_packets_lost_total", "Packets that matched a rule and are not kept.", "reason", []string{ByKernel, ByQueue, ByRate}),
		ignored:  r.counters("culprit_packets_ignored_total", "Packets of our NFLOG group that are no hits.", "reason", []string{IgnoredUnverified, IgnoredForeign}),
		overruns: r.counter("culprit_nflog_overruns_total", "Overruns of the netlink buffer that packets come by."),
	}
}

// Rules are those in force: from now on each has its numbers, if it has no hits yet.
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

// Repeated counts the packets of a hit, of which it had so many in all.
func (p *packets) Repeated(count int) { p.repeats.Add(float64(count - 1)) }

// Lost and Ignored count packets, by one of the reasons; Overruns those of the buffer.
func (p *packets) Lost(reason string, n uint64)    { p.lost.WithLabelValues(reason).Add(float64(n)) }
func (p *packets) Ignored(reason string, n uint64) { p.ignored.WithLabelValues(reason).Add(float64(n)) }
func (p *packets) Overruns(n uint64)               { p.overruns.Add(float64(n)) }

// Waiting has read asked how many packets wait to be looked at. Call it once.
func (p *packets) Waiting(read func() int) {
	p.r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "culprit_packets_waiting", Help: "Packets that wait to be looked at; nflog.queue bounds them.",
	}, func() float64 { return float64(read()) }))
}
