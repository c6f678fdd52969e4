package daemon

import (
	"context"
	"errors"
	"time"

	"culprit/internal/event"
	"culprit/rules"
)

// firewall is our rules in the kernel. A goroutine keeps them in place during the hunt. Its
// methods are for one goroutine.
type firewall struct {
	rules    *rules.Firewall // in force
	recorder *recorder
	counts   *counts
	keeping  *part // nil: the rules are not being kept
}

func newFirewall(r *rules.Firewall, recorder *recorder, counts *counts) *firewall {
	return &firewall{rules: r, recorder: recorder, counts: counts}
}

// install installs the rules, and keeps them from then on.
func (f *firewall) install(ctx context.Context) error {
	if err := f.rules.Install(); err != nil {
		return err
	}
	f.keep(ctx)
	return nil
}

// replace installs other rules beside those in force and then removes the old ones, so that no
// packet of a rule that stays is missed. On an error the rules in force stay.
func (f *firewall) replace(ctx context.Context, next *rules.Firewall) error {
	f.stopKeeping()
	defer f.keep(ctx)
	if err := next.Install(); err != nil {
		return errors.Join(err, f.rules.Install())
	}
	f.rules = next
	return nil
}

// remove removes the rules. Nobody may be keeping them any more.
func (f *firewall) remove() error { return f.rules.Remove() }

func (f *firewall) keep(ctx context.Context) {
	r := f.rules
	f.keeping = start(ctx, withoutError(func(ctx context.Context) { r.Keep(ctx, f.healed, f.counts.RepairFailed) }))
}

// stopKeeping stops keeping the rules.
func (f *firewall) stopKeeping() {
	if f.keeping != nil {
		_ = stop(f.keeping) // it never fails
		f.keeping = nil
	}
}

// healed records that rules were missing. The keeping goroutine calls it.
func (f *firewall) healed(gap rules.Gap) {
	missing := gap.Until.Sub(gap.Since)
	f.recorder.Lost(event.NewLoss(event.LossFirewall, missing.Round(time.Millisecond).String(), 1))
	f.counts.Repaired(missing)
}
