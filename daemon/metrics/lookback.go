package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"culprit/internal/event"
)

// lookBacks counts what was written of what senders did before their packets.
type lookBacks struct{ written, unwritten prometheus.Counter }

func newLookBacks(r factory, recorded func() uint64) lookBacks {
	r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "culprit_lookback_calls_total", Help: "System calls that were kept in memory, most of them forgotten since.",
	}, func() float64 { return float64(recorded()) }))
	return lookBacks{
		written:   r.counter("culprit_lookbacks_total", "Look-backs that were written."),
		unwritten: r.counter("culprit_lookbacks_lost_total", "Look-backs that were not written."),
	}
}

// LookedBack counts a look-back.
func (l *lookBacks) LookedBack() { l.written.Inc() }

// Lost counts a loss. Those without a metric of their own are only in the evidence.
func (m *Metrics) Lost(d event.LossDetail) {
	if d.Code == event.LossLookBacks {
		m.unwritten.Add(float64(d.Count))
		return
	}
	m.packets.Lost(d)
}
