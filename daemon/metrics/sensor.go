package metrics

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"culprit/internal/event"
)

// Sensor is what the sensor is and has seen so far.
type Sensor struct {
	Way                    string
	Freezes                bool
	Lost, Unread, Unjoined uint64
	Unstopped              map[event.UnstoppedCode]uint64
}

// stops counts the processes that the sensor stopped.
type stops struct {
	wentOn   *prometheus.CounterVec
	stood    prometheus.Histogram
	failures prometheus.Counter
}

func newStops(r factory, read func() Sensor) stops {
	count := func(name, help string, labels prometheus.Labels, of func(Sensor) uint64) {
		r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels}, func() float64 { return float64(of(read())) }))
	}
	count("culprit_sensor_lost_total", "Packets that found no room in the sensor's buffer: their senders are unknown to it.", nil, func(s Sensor) uint64 { return s.Lost })
	count("culprit_sensor_unread_total", "What the sensor said and culprit could not read.", nil, func(s Sensor) uint64 { return s.Unread })
	count("culprit_sensor_unjoined_total", "What the sensor said of packets that did not come.", nil, func(s Sensor) uint64 { return s.Unjoined })
	for _, why := range event.UnstoppedCodes() {
		count("culprit_sensor_unstopped_total", "Packets whose sender the sensor did not stop.", prometheus.Labels{"reason": string(why)},
			func(s Sensor) uint64 { return s.Unstopped[why] })
	}
	info := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "culprit_sensor_info", Help: "How the kernel says who sends a packet; always 1."}, []string{"way", "stops"})
	r.MustRegister(info)
	now := read()
	info.WithLabelValues(now.Way, strconv.FormatBool(now.Freezes)).Set(1)
	return stops{
		wentOn: counters(r, "culprit_sensor_stops_total", "Processes that the sensor stopped at a packet, by why they went on.", "outcome", event.WentOnCodes()...),
		stood: r.histogram("culprit_sensor_stop_duration_seconds", "How long processes stood still at a packet until culprit let them go on.",
			.0005, .001, .002, .003, .004, .005, .0075, .01, .02, .03, .05, .1, .25, .5, 1, 5),
		failures: r.counter("culprit_sensor_failures_total", "Helpers of the sensor that failed and were replaced."),
	}
}

// WentOn counts a process that the sensor had stopped, and why it went on. stood is how long it
// stood still, if that is known.
func (s *stops) WentOn(why event.WentOnCode, stood time.Duration) {
	s.wentOn.WithLabelValues(string(why)).Inc()
	if why != event.WentOnExpired {
		s.stood.Observe(stood.Seconds())
	}
}

// SensorFailed counts a helper of the sensor that failed.
func (s *stops) SensorFailed() { s.failures.Inc() }
