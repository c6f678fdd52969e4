package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"culprit/internal/config"
	"culprit/rules"
)

// reload reads the configuration again and puts it into force, with the sets of the fleet. If that fails the old one stays
// in force, and the error says why.
func (d *daemon) reload(ctx context.Context) error {
	c, err := config.Load(d.local.Path)
	if err != nil {
		return err
	}
	if keys := c.NeedsRestart(d.local); len(keys) > 0 {
		return fmt.Errorf("%s: a running daemon cannot change %s: restart it", c.Path, strings.Join(keys, ", "))
	}
	return d.reloadWithSets(ctx, c)
}

// use puts a configuration into force with rules of the fleet beside its own. If that fails what was in force stays.
func (d *daemon) use(ctx context.Context, local *config.Config, fleet []config.Rule) error {
	c := local.With(fleet)
	next, err := rules.New(c, rules.Sensing{Pin: d.sensor.Pin(), Mark: d.sensor.Mark()}, d.log)
	if err != nil {
		return err
	}
	all, kept, err := loadLists(ctx, c, d.lists, d.log)
	if err != nil {
		return err
	}
	// The names of another version are not the names of this one.
	for _, r := range fleet {
		if why := kept[r.Name]; why != nil && !d.has(r.Set) {
			return why
		}
	}
	now, err := d.triggerRules(d.config, d.lists)
	if err != nil {
		return err
	}
	soon, err := d.triggerRules(c, all)
	if err != nil {
		return err
	}
	// Packets of new rules arrive as soon as those are installed, packets of old rules until
	// those are removed.
	if err := d.listener.SetRules(ctx, slices.Concat(now, soon)); err != nil {
		return err
	}
	// Packets of a rule that has lists in one of the configurations only come to user space meanwhile.
	if err := errors.Join(d.filter.use(slices.Concat(d.config.Rules, c.Rules), c.Rules, all), d.sensor.Spare(spared(c.Guard))); err != nil {
		return err
	}
	if err := d.firewall.replace(ctx, next); err != nil {
		return errors.Join(err, d.listener.SetRules(ctx, now), d.filter.use(d.config.Rules, d.config.Rules, d.lists))
	}
	said := warnings(d.config)
	for _, w := range warnings(c) {
		if local != d.local || !slices.Contains(said, w) {
			d.log.Warn(w)
		}
	}
	d.controller.Reload(c)
	d.sweeper.SetBounds(Bounds(c.Evidence))
	d.logging.set(c)
	d.store.Redact(c.Capture.Redaction())
	d.counts.configured(c)
	d.recorder.configured(c)
	d.member.configured(c)
	d.local, d.config = local, c
	d.useLists(all, kept)
	return d.setRules(ctx, all)
}
