package daemon

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"time"

	"culprit/daemon/metrics"
	"culprit/internal/config"
	"culprit/lists"
	"culprit/trigger"
)

// loadLists loads the lists of the rules. Those that have not changed since old are kept, and so are those that cannot be
// loaded any more: kept has those.
func loadLists(ctx context.Context, c *config.Config, old map[string]*lists.List, log *slog.Logger) (all map[string]*lists.List, kept map[string]error, err error) {
	all, kept, err = lists.LoadAll(ctx, c.Rules, old, c.Evidence.Dir)
	if err != nil {
		return nil, nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(kept)) {
		log.Error("a list was not loaded: the names that it had stay in force", "error", kept[name])
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if l := all[name]; l != old[name] {
			logList(log, l, old[name])
		}
	}
	return all, kept, nil
}

// logList says what was loaded.
func logList(log *slog.Logger, l, before *lists.List) {
	listed, excepted := l.Entries()
	rejected := 0
	for i := range l.Files {
		rejected += l.Files[i].Rejects()
	}
	log.Info("list loaded", "rule", l.Rule, "files", len(l.Files), "entries", listed, "exceptions", excepted, "rejected", rejected, "took", l.Took.Round(time.Millisecond).String())
	switch {
	case l.Shrunk(before):
		was, _ := before.Entries()
		log.Warn("a list has lost more than half of its names: look at what publishes it", "rule", l.Rule, "entries", listed, "before", was)
	case listed == 0:
		log.Warn("a list has no names", "rule", l.Rule)
	}
}

// warnings lists settings that are allowed but cannot be meant.
func warnings(c *config.Config) []string { return append(c.Warnings(), lists.Warnings(c)...) }

// triggerRules are the rules of a configuration as the trigger decides by them.
func (d *daemon) triggerRules(c *config.Config, all map[string]*lists.List) ([]trigger.Rule, error) {
	rules, err := trigger.Rules(c.Rules, lists.Sets(all))
	for i := range rules {
		// Without a filter a sensor would name, and stop, whoever asks anything.
		rules[i].Unsensed = rules[i].List != nil && !d.filter.senses()
	}
	return rules, err
}

// listsChanged loads the lists that have changed, and puts them into force. What is in the old and in the new ones is
// looked for all the time.
func (d *daemon) listsChanged(ctx context.Context) {
	all, kept, err := loadLists(ctx, d.config, d.lists, d.log)
	if err == nil && !maps.Equal(all, d.lists) {
		if err = d.setRules(ctx, all); err == nil {
			err = d.filter.use(d.config.Rules, d.config.Rules, all)
		}
		if err == nil {
			err = d.setRules(ctx, all) // whether they are sensed may have changed
		}
	}
	switch {
	case err == nil:
		d.useLists(all, kept)
	case ctx.Err() == nil:
		d.log.Error("the lists were not loaded: the old ones stay in force", "error", err)
	}
}

// setRules hands the trigger the rules of the configuration, with lists.
func (d *daemon) setRules(ctx context.Context, all map[string]*lists.List) error {
	rules, err := d.triggerRules(d.config, all)
	if err != nil {
		return err
	}
	return d.listener.SetRules(ctx, rules)
}

// useLists takes over lists that are in force from now on, and watches their directories.
func (d *daemon) useLists(all map[string]*lists.List, kept map[string]error) {
	d.lists = all
	d.counts.lists(all, kept)
	if err := d.watcher.Watch(d.config, d.lists); err != nil {
		d.log.Warn("a list that changes is not noticed: reload culprit then", "error", err)
	}
}

// lists counts the lists in force.
func (n *counts) lists(all map[string]*lists.List, kept map[string]error) {
	var sizes []metrics.List
	for _, l := range all {
		m := metrics.List{Rule: l.Rule, Bytes: l.Set.Size(), Loaded: l.Loaded, Stale: kept[l.Rule] != nil}
		m.Entries, m.Exceptions = l.Entries()
		for i := range l.Files {
			m.Rejected += l.Files[i].Rejects()
		}
		sizes = append(sizes, m)
	}
	n.Lists(sizes)
}
