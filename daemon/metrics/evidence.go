package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"culprit/internal/event"
)

// Catalogue is what the store has done so far.
type Catalogue struct {
	Waiting              int
	Dropped, Failures    uint64
	Proofs, Kernel       uint64
	Probable, Uncompared uint64
	Unsent               int64
	Lost, Refused        uint64
	FleetUnsent          int64
	FleetLost            uint64
}

// A Sweep is the result of one sweep of the evidence.
type Sweep struct {
	Bytes, Free int64            // after the sweep: of the evidence, and free on its disk
	Evictions   map[Eviction]int // removed files
	Expired     map[string]int64 // removed rows, by table
}

// An Eviction is the kind of a removed file, and the bound of the evidence that required it.
type Eviction struct {
	File   string // trace, packets, executable
	Reason event.RemovedCode
}

// evidence counts what is kept and removed.
type evidence struct {
	bytes, limit  prometheus.Gauge
	free, minFree prometheus.Gauge
	swept         prometheus.Gauge
	sweepFailures prometheus.Counter
	evictions     *prometheus.CounterVec
	expired       *prometheus.CounterVec
}

func newEvidence(r factory, s Source) evidence {
	registerCatalogue(r, s.Catalogue)
	evictions := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "culprit_evidence_evictions_total", Help: "Files of the evidence that were removed, by the configuration key that is the reason.",
	}, []string{"file", "reason"})
	r.MustRegister(evictions)
	for _, file := range [...]string{"trace", "packets", "executable"} {
		for _, why := range event.RemovedCodes() {
			evictions.WithLabelValues(file, string(why))
		}
	}
	return evidence{
		bytes:         r.gauge("culprit_evidence_bytes", "Size of the evidence on the disk at the last sweep."),
		limit:         r.gauge("culprit_evidence_limit_bytes", "The limit of the size of the evidence: evidence.max_bytes."),
		free:          r.gauge("culprit_evidence_free_bytes", "Free bytes on the disk of the evidence at the last sweep."),
		minFree:       r.gauge("culprit_evidence_min_free_bytes", "Bytes that have to stay free on the disk of the evidence: evidence.min_free."),
		swept:         r.gauge("culprit_evidence_last_sweep_timestamp_seconds", "When the evidence was last compared with its limits."),
		sweepFailures: r.counter("culprit_evidence_sweep_failures_total", "How often comparing the evidence with its limits failed."),
		evictions:     evictions,
		expired:       counters(r, "culprit_catalogue_expired_rows_total", "Rows that were removed from the catalogue because they were too old or too many.", "table", s.Tables...),
	}
}

// Bounds sets the bounds in force, in bytes.
func (e *evidence) Bounds(maxBytes, minFree int64) {
	e.limit.Set(float64(maxBytes))
	e.minFree.Set(float64(minFree))
}

// Swept counts a sweep. An error means that parts of it failed.
func (e *evidence) Swept(s Sweep, err error) {
	if err != nil {
		e.sweepFailures.Inc()
	}
	for one, n := range s.Evictions {
		e.evictions.WithLabelValues(one.File, string(one.Reason)).Add(float64(n))
	}
	for table, n := range s.Expired {
		e.expired.WithLabelValues(table).Add(float64(n))
	}
	if s.Bytes == 0 && err != nil {
		return // it failed before it had measured anything
	}
	e.bytes.Set(float64(s.Bytes))
	e.free.Set(float64(s.Free))
	e.swept.SetToCurrentTime()
}

// registerCatalogue registers what the store counts itself.
func registerCatalogue(r factory, read func() Catalogue) {
	count := func(name, help string, labels prometheus.Labels, of func(Catalogue) uint64) {
		r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels}, func() float64 { return float64(of(read())) }))
	}
	const proofs, proofsHelp = "culprit_proofs_total", "Packets for which the sending line was found, by how sure that is."
	count(proofs, proofsHelp, prometheus.Labels{"certainty": "certain"}, func(c Catalogue) uint64 { return c.Proofs })
	count(proofs, proofsHelp, prometheus.Labels{"certainty": "kernel"}, func(c Catalogue) uint64 { return c.Kernel })
	count(proofs, proofsHelp, prometheus.Labels{"certainty": "probable"}, func(c Catalogue) uint64 { return c.Probable })
	count("culprit_proof_uncompared_total", "Hits and system calls that were not compared with each other; culprit prove can compare them.", nil, func(c Catalogue) uint64 { return c.Uncompared })
	count("culprit_catalogue_dropped_total", "Hits, proofs and programs that could not be written to the catalogue, or not in time.", nil, func(c Catalogue) uint64 { return c.Dropped })
	count("culprit_catalogue_write_failures_total", "Transactions of the catalogue that failed.", nil, func(c Catalogue) uint64 { return c.Failures })
	count("culprit_events_dropped_total", "Events that were not sent out because too many waited.", nil, func(c Catalogue) uint64 { return c.Lost })
	count("culprit_fleet_dropped_total", "Events that were not sent to the fleet because too many waited, or they were too long.", nil, func(c Catalogue) uint64 { return c.FleetLost })
	count("culprit_events_refused_total", "Events that the collector will never take.", nil, func(c Catalogue) uint64 { return c.Refused })
	r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "culprit_events_waiting", Help: "Events that wait to be sent out.",
	}, func() float64 { return float64(read().Unsent) }))
	r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "culprit_fleet_waiting", Help: "Events that wait to be sent to the fleet.",
	}, func() float64 { return float64(read().FleetUnsent) }))
	r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "culprit_catalogue_waiting", Help: "Changes that wait to be written to the catalogue.",
	}, func() float64 { return float64(read().Waiting) }))
}
