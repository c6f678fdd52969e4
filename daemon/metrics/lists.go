package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// A List is the list of a rule that is in force.
type List struct {
	Rule                          string
	Entries, Exceptions, Rejected int
	Bytes                         int64
	Loaded                        time.Time
	Stale                         bool // it cannot be loaded any more
}

// lists counts what rules with lists look for, and what they find.
type lists struct {
	entries, rejected, bytes, loaded, stale *prometheus.GaugeVec
	looked                                  *prometheus.CounterVec
}

// Filtered are the packets of a rule with lists, by what the filter in the kernel made of them.
type Filtered struct{ Passed, Dropped, Undecided uint64 }

// A filtered collects them from the kernel.
type filtered struct {
	desc *prometheus.Desc
	read func() map[string]Filtered
}

func (f filtered) Describe(to chan<- *prometheus.Desc) { to <- f.desc }

func (f filtered) Collect(to chan<- prometheus.Metric) {
	for rule, n := range f.read() {
		for verdict, count := range map[string]uint64{"passed": n.Passed, "dropped": n.Dropped, "undecided": n.Undecided} {
			to <- prometheus.MustNewConstMetric(f.desc, prometheus.CounterValue, float64(count), rule, verdict)
		}
	}
}

func newLists(r factory, read func() map[string]Filtered) lists {
	r.MustRegister(filtered{prometheus.NewDesc("culprit_list_filter_packets_total", "Packets of a rule with lists, by what the filter in the kernel made of them.", []string{"rule", "verdict"}, nil), read})
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, append([]string{"rule"}, labels...))
		r.MustRegister(v)
		return v
	}
	looked := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "culprit_list_packets_total", Help: "Packets that were looked up in the list of a rule, and whether a question was listed.",
	}, []string{"rule", "result"})
	r.MustRegister(looked)
	return lists{
		entries:  gauge("culprit_list_entries", "Different entries of the lists of a rule, and exceptions.", "kind"),
		rejected: gauge("culprit_list_rejected_lines", "Lines of the lists of a rule that are no entries."),
		bytes:    gauge("culprit_list_bytes", "Size of the compiled lists of a rule, most of it on the disk."),
		loaded:   gauge("culprit_list_loaded_timestamp_seconds", "When the lists of a rule were loaded."),
		stale:    gauge("culprit_list_stale", "1 if the lists of a rule could not be loaded the last time, and the names that they had are in force; otherwise 0."),
		looked:   looked,
	}
}

// Lists says which lists are in force.
func (l *lists) Lists(all []List) {
	for _, v := range []*prometheus.GaugeVec{l.entries, l.rejected, l.bytes, l.loaded, l.stale} {
		v.Reset()
	}
	for _, one := range all {
		l.entries.WithLabelValues(one.Rule, "listed").Set(float64(one.Entries))
		l.entries.WithLabelValues(one.Rule, "excepted").Set(float64(one.Exceptions))
		l.rejected.WithLabelValues(one.Rule).Set(float64(one.Rejected))
		l.bytes.WithLabelValues(one.Rule).Set(float64(one.Bytes))
		l.loaded.WithLabelValues(one.Rule).Set(float64(one.Loaded.UnixNano()) / 1e9)
		l.stale.WithLabelValues(one.Rule).Set(0)
		if one.Stale {
			l.stale.WithLabelValues(one.Rule).Set(1)
		}
		l.Looked(one.Rule, 0, 0)
	}
}

// Looked counts packets that were looked up in the list of a rule.
func (l *lists) Looked(rule string, hits, misses uint64) {
	l.looked.WithLabelValues(rule, "hit").Add(float64(hits))
	l.looked.WithLabelValues(rule, "miss").Add(float64(misses))
}
