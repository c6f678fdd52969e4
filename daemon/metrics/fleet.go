package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"culprit/fleet/sets"
)

// fleetSets counts the sets of rules and lists that the host gets from its fleet.
type fleetSets struct{ states *prometheus.GaugeVec }

func newFleetSets(r factory) fleetSets {
	f := fleetSets{prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "culprit_fleet_sets", Help: "Sets of rules and lists of the fleet that this host knows, by what has become of their newest version.",
	}, []string{"state"})}
	r.MustRegister(f.states)
	f.Sets(nil)
	return f
}

// Sets says how many sets are in which state.
func (f fleetSets) Sets(n map[sets.State]int) {
	for _, s := range sets.States() {
		f.states.WithLabelValues(string(s)).Set(float64(n[s]))
	}
}
