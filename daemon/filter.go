package daemon

import (
	"errors"
	"log/slog"
	"sync"

	"culprit/daemon/metrics"
	"culprit/internal/config"
	"culprit/lists"
	"culprit/lists/nfilter"
	"culprit/sensor"
	"culprit/trigger"
)

// A listFilter lets the kernel drop packets that no list means, where it can. Nobody needs it: user space decides exactly.
// The daemon's loop owns it; counts may be asked for by others.
type listFilter struct {
	listener *trigger.Listener
	sensor   *sensor.Sensor
	log      *slog.Logger

	mu     sync.Mutex
	now    *nfilter.Filter // nil: all packets come up
	before map[string]nfilter.Counts
}

func newListFilter(l *trigger.Listener, s *sensor.Sensor, log *slog.Logger) *listFilter {
	return &listFilter{listener: l, sensor: s, log: log, before: map[string]nfilter.Counts{}}
}

// use puts the lists of rules into force in the kernel, for our own packets and for those of other network namespaces, and tells
// the sensor whose senders it is to name. The listener must know the lists already, so that what passes becomes a hit. Of other
// namespaces, only packets of the rules in elsewhere are looked for from now on.
func (f *listFilter) use(rules, elsewhere []config.Rule, all map[string]*lists.List) error {
	var next *nfilter.Filter
	if len(all) > 0 {
		var err error
		if next, err = nfilter.Load(lists.Sets(all), f.sensor.Decided()); err == nil {
			if err = f.listener.Filter(next.Program()); err != nil {
				next.Close()
				next = nil
			}
		}
		if err != nil {
			f.log.Warn("the kernel does not look lists up: each question to their ports comes to user space", "error", err)
		}
	}
	err := f.look(elsewhere, next)
	if next != nil {
		f.replace(next)
		return errors.Join(err, f.sensor.SetRules(f.sensed(rules)))
	}
	// Nobody may be stopped for a list any more before everything passes.
	err = errors.Join(err, f.sensor.SetRules(plainRules(rules)))
	if f.now != nil {
		err = errors.Join(err, f.listener.Filter(nil))
		f.replace(nil)
	}
	return err
}

// look tells the sensor what to look for in other network namespaces.
func (f *listFilter) look(rules []config.Rule, filter *nfilter.Filter) error {
	all := wants(rules)
	if filter != nil {
		err := f.sensor.SetWants(all, filter)
		if err == nil {
			return nil
		}
		f.log.Warn("the kernel does not look lists up in other network namespaces: each question to their ports comes to user space", "error", err)
	}
	return f.sensor.SetWants(all, nil)
}

func (f *listFilter) replace(next *nfilter.Filter) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.now != nil {
		for rule, n := range f.now.Counts() {
			f.before[rule] = f.before[rule].Plus(n)
		}
		f.now.Close()
	}
	f.now = next
}

// senses reports whether the kernel names, and stops, who asks for a name on a list: if the sensor sees what the filter lets
// pass, and nothing else.
func (f *listFilter) senses() bool { return f.now != nil && f.sensor.Way() == sensor.WayNFLog }

// sensed are the rules whose packets' senders the kernel names.
func (f *listFilter) sensed(rules []config.Rule) (sensed []sensor.Rule) {
	for _, r := range rules {
		if !r.IsList() || f.senses() {
			sensed = append(sensed, sensor.Rule{Name: r.Name, Filtered: r.IsList()})
		}
	}
	return sensed
}

// counts returns what became of the packets of each rule.
func (f *listFilter) counts() map[string]metrics.Filtered {
	if f == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	all := map[string]metrics.Filtered{}
	for rule, n := range f.before {
		all[rule] = metrics.Filtered(n)
	}
	if f.now != nil {
		for rule, n := range f.now.Counts() {
			all[rule] = metrics.Filtered(f.before[rule].Plus(n))
		}
	}
	return all
}

// close frees what the filter has. The listener must be closed.
func (f *listFilter) close() { f.replace(nil) }
