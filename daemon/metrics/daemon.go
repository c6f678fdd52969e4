package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// daemon counts what the daemon does for itself and its firewall rules.
type daemon struct {
	repairs, repairFailures prometheus.Counter
	gap                     prometheus.Counter
	reloaded, reloadedAt    prometheus.Gauge
	turned                  *prometheus.GaugeVec
}

func newDaemon(r factory, connected func() float64) daemon {
	r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "culprit_fleet_connected", Help: "1 if this host is connected to a server of its fleet, else 0.",
	}, connected))
	d := daemon{
		repairs:        r.counter("culprit_firewall_repairs_total", "How often others changed the firewall, and culprit put its rules back."),
		repairFailures: r.counter("culprit_firewall_repair_failures_total", "How often culprit could not put its firewall rules back; it tries every second."),
		gap:            r.counter("culprit_firewall_gap_seconds_total", "For how long, at most, packets were missed because others changed the firewall."),
		reloaded:       r.gauge("culprit_config_last_reload_successful", "1, or 0 if the last reload of the configuration was refused."),
		reloadedAt:     r.gauge("culprit_config_last_reload_success_timestamp_seconds", "When the configuration in force was read."),
	}
	d.turned = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "culprit_loop_last_turn_timestamp_seconds", Help: "When the loop was last seen to turn; culprit looks every five seconds.",
	}, []string{"loop"})
	r.MustRegister(d.turned)
	return d
}

// Repaired counts a gap in which our rules were not right.
func (d *daemon) Repaired(gap time.Duration) {
	d.repairs.Inc()
	d.gap.Add(gap.Seconds())
}

// RepairFailed counts a failed attempt to repair them.
func (d *daemon) RepairFailed() { d.repairFailures.Inc() }

// Reloaded counts a reload, and whether it succeeded.
func (d *daemon) Reloaded(ok bool) {
	if !ok {
		d.reloaded.Set(0)
		return
	}
	d.reloaded.Set(1)
	d.reloadedAt.SetToCurrentTime()
}
