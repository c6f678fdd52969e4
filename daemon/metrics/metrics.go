// Package metrics counts what the daemon does, and lets Prometheus read it.
//
// It always counts everything, because that costs next to nothing. metrics.listen says where
// the metrics can be read. The values of labels come from the configuration or the code, never
// from packets or processes; only who sent hits is named, with bounds.
package metrics

import (
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	dto "github.com/prometheus/client_model/go"

	"culprit/internal/event"
)

// Metrics holds all metrics. Its methods are safe for concurrent use and wait for nothing.
type Metrics struct {
	registry *prometheus.Registry
	packets
	senders
	lists
	captures
	stops
	traces
	lookBacks
	evidence
	daemon
	fleetSets
}

// A factory makes the metrics of one registry.
type factory struct{ *prometheus.Registry }

func (r factory) counter(name, help string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	r.MustRegister(c)
	return c
}

func (r factory) gauge(name, help string) prometheus.Gauge {
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	r.MustRegister(g)
	return g
}

// counters makes a counter with one label, and a series for each of the values. A series that
// began with its first event would hide that event from PromQL's increase().
func counters[V ~string](r factory, name, help, label string, values ...V) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	r.MustRegister(v)
	for _, value := range values {
		v.WithLabelValues(string(value))
	}
	return v
}

func (r factory) histogram(name, help string, seconds ...float64) prometheus.Histogram {
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: seconds})
	r.MustRegister(h)
	return h
}

// A Source is the daemon to be measured. Its functions are called at each reading, and must not
// wait.
type Source struct {
	Version, Commit string           // of the program
	Tables          []string         // of the catalogue
	Waiting         func() int       // packets in the queue
	Catalogue       func() Catalogue // what the store has done
	Sensor          func() Sensor    // what it has seen
	Recorded        func() uint64    // system calls kept in memory
	// Filtered is what the kernel made of the packets of each rule with lists.
	Filtered func() map[string]Filtered
	// Connected is 1 if a server of the fleet answers, else 0.
	Connected func() float64
}

// New makes the metrics of a daemon.
func New(s Source) *Metrics {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	r := factory{registry}
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "culprit_build_info", Help: "The version of culprit; always 1.",
	}, []string{"version", "revision", "goversion"})
	r.MustRegister(build)
	build.WithLabelValues(s.Version, s.Commit, runtime.Version()).Set(1)
	return &Metrics{
		registry: registry,
		packets:  newPackets(r, s.Waiting), senders: newSenders(r), lists: newLists(r, s.Filtered), captures: newCaptures(r), stops: newStops(r, s.Sensor), traces: newTraces(r), lookBacks: newLookBacks(r, s.Recorded), evidence: newEvidence(r, s), daemon: newDaemon(r, s.Connected), fleetSets: newFleetSets(r),
	}
}

// Gather returns what Prometheus would read.
func (m *Metrics) Gather() ([]*dto.MetricFamily, error) { return m.registry.Gather() }

// grades are the grades that a new hit can have. Proof comes later.
var grades = [...]event.Grade{event.GradeKernel, event.GradeSocket, event.GradeCandidates, event.GradeNone}
