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

// reload reads the configuration again and puts it into force. If that fails the old one stays
// in force, and the error says why.
func (d *daemon) reload(ctx context.Context) error {
	c, err := config.Load(d.config.Path)
	if err != nil {
		return err
	}
	if keys := c.NeedsRestart(d.config); len(keys) > 0 {
		return fmt.Errorf("%s: a running daemon cannot change %s: restart it", c.Path, strings.Join(keys, ", "))
	}
	next, err := rules.New(c, d.log)
	if err != nil {
		return err
	}
	// Packets of new rules arrive as soon as those are installed, packets of old rules until
	// those are removed.
	if err := d.listener.SetRules(ctx, slices.Concat(d.config.Rules, c.Rules)); err != nil {
		return err
	}
	if err := d.firewall.replace(ctx, next); err != nil {
		return errors.Join(err, d.listener.SetRules(ctx, d.config.Rules))
	}
	for _, w := range c.Warnings() {
		d.log.Warn(w)
	}
	d.controller.Reload(c)
	d.sweeper.SetBounds(Bounds(c.Evidence))
	d.logging.set(c)
	d.store.Redact(c.Capture.Redaction())
	d.counts.configured(c)
	d.config = c
	return d.listener.SetRules(ctx, c.Rules)
}
