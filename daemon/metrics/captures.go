package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"culprit/internal/event"
)

// captures counts what captures do and measures how fast they are. It is the controller's
// Meter.
type captures struct {
	started          prometheus.Counter
	running, straces prometheus.Gauge
	attach           map[string]prometheus.Observer // by how the process was found
	afterHit         prometheus.Histogram
	failures         *prometheus.CounterVec
	untraced         *prometheus.CounterVec
	overruns         prometheus.Counter

	held         prometheus.Histogram
	gateExpired  prometheus.Counter
	gateUnheld   prometheus.Counter
	gateFailures prometheus.Counter
}

// foundBy are all ways to find a process that lead to a strace.
var foundBy = [...]string{event.FoundGate, event.FoundPacket, event.FoundScan, event.FoundFork, event.FoundExec, event.FoundUID, event.FoundPoll}

func newCaptures(r factory) captures {
	attach := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "culprit_attach_duration_seconds", Help: "Time from finding a process to strace being attached, by how it was found. One per trace.",
		Buckets: []float64{.001, .002, .003, .004, .005, .0075, .01, .02, .03, .05, .1, .25, .5, 1, 5},
	}, []string{"found_by"})
	r.MustRegister(attach)
	byWay := map[string]prometheus.Observer{}
	for _, way := range foundBy {
		byWay[way] = attach.WithLabelValues(way)
	}
	return captures{
		started: r.counter("culprit_captures_started_total", "Captures that a hit started."),
		running: r.gauge("culprit_captures_running", "Captures that have not ended."),
		straces: r.gauge("culprit_straces_running", "Straces that run or start, at most capture.concurrent."),
		attach:  byWay,
		afterHit: r.histogram("culprit_hit_attach_duration_seconds", "Time from a packet to strace being attached to a process that was running when the packet was sent.",
			.005, .01, .015, .02, .03, .04, .05, .075, .1, .25, .5, 1, 2.5, 5, 10, 30),
		failures: counters(r, "culprit_attach_failures_total", "Straces that could not attach.", "reason", event.NotAttachedCodes()...),
		untraced: counters(r, "culprit_processes_untraced_total", "Processes of captured users for which no strace was started.", "reason", event.NotTriedCodes()...),
		overruns: r.counter("culprit_process_event_overruns_total", "How often the kernel dropped process events, and culprit scanned /proc instead."),
		held: r.histogram("culprit_gate_hold_duration_seconds", "How long programs were held at their start.",
			.0005, .001, .002, .003, .004, .005, .0075, .01, .02, .03, .05, .1, .25, .5, 1, 5),
		gateExpired:  r.counter("culprit_gate_expired_holds_total", "Programs that went on because capture.gate_deadline was over."),
		gateUnheld:   r.counter("culprit_gate_unheld_programs_total", "Programs that were not held because the daemon did not listen, or too many were stopped."),
		gateFailures: r.counter("culprit_gate_failures_total", "Gates that failed and were replaced."),
	}
}

// Started counts a capture.
func (c *captures) Started() { c.started.Inc() }

// Running sets how many captures and straces are running.
func (c *captures) Running(captures, straces int) {
	c.running.Set(float64(captures))
	c.straces.Set(float64(straces))
}

// Attached measures a strace that attached to a process, by how the process was found.
func (c *captures) Attached(foundBy string, took time.Duration) {
	if h := c.attach[foundBy]; h != nil {
		h.Observe(took.Seconds())
	}
}

// AttachedAfter measures the time from the packet to the attached strace.
func (c *captures) AttachedAfter(hit time.Duration) { c.afterHit.Observe(hit.Seconds()) }

// AttachFailed counts a strace that could not attach.
func (c *captures) AttachFailed(why event.UntracedCode) {
	c.failures.WithLabelValues(string(why)).Inc()
}

// Untraced counts a process for which no strace was started.
func (c *captures) Untraced(why event.UntracedCode) { c.untraced.WithLabelValues(string(why)).Inc() }

// Overrun counts a loss of process events.
func (c *captures) Overrun() { c.overruns.Inc() }

// Held measures a hold of the gate.
func (c *captures) Held(d time.Duration) { c.held.Observe(d.Seconds()) }

// GateExpired, GateUnheld and GateFailed count failures of the gate.
func (c *captures) GateExpired(n uint64) { c.gateExpired.Add(float64(n)) }
func (c *captures) GateUnheld(n uint64)  { c.gateUnheld.Add(float64(n)) }
func (c *captures) GateFailed()          { c.gateFailures.Inc() }
