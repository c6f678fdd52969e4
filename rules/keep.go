package rules

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// nf_tables says when anything has changed; then Keep looks at once, but not more often than every
// keepEvery. restEvery it asks all the same, by the number of the generation; every keepEvery where
// the kernel does not say. The tables of iptables-legacy have neither: for them Keep lists our
// chain every legacyEvery.
const (
	keepEvery   = time.Second
	restEvery   = 10 * time.Second
	legacyEvery = 4 * time.Second
)

// A Gap is a period in which rules were missing or not the first to see a packet.
type Gap struct {
	// Since is when they were last seen to be right, Until when they were right again. When they were
	// changed in between nobody knows: the kernel tells, but who was stopped hears of it later.
	Since, Until time.Time
}

// Keep checks until the context ends that the rules are in place, because others flush the
// firewall or load one of their own. If they are not, it installs them again and calls healed,
// or failed each time it cannot. Nobody else may use the Firewall meanwhile.
func (f *Firewall) Keep(ctx context.Context, healed func(Gap), failed func()) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	changes, err := nftChanges(ctx)
	if err != nil {
		f.log.Debug("the firewall is asked every second whether it has changed", "error", err)
	}
	f.keep(ctx, changes, restEvery, healed, failed)
}

// keep is told of changes by a channel, until that is closed; nil: never.
func (f *Firewall) keep(ctx context.Context, changes <-chan struct{}, restEvery time.Duration, healed func(Gap), failed func()) {
	legacy := slices.ContainsFunc(f.tools, func(t tool) bool { return t.backend == BackendLegacy })
	rest := func() time.Duration {
		switch {
		case changes == nil:
			return keepEvery
		case legacy:
			return legacyEvery
		default:
			return restEvery
		}
	}
	look := time.NewTimer(keepEvery)
	defer look.Stop()
	lastLook, lastGood, lastList, lastError := time.Now(), time.Now(), time.Now(), ""
	seen, _ := nftGeneration()
	seen-- // look once: somebody may have changed it since it was installed
	for {
		select {
		case <-ctx.Done():
			return
		case _, open := <-changes:
			if !open {
				changes = nil
			}
			look.Reset(time.Until(lastLook.Add(keepEvery)))
			continue
		case <-look.C:
		}
		now := time.Now()
		lastLook = now
		look.Reset(rest())
		generation, err := nftGeneration()
		same := err == nil && generation == seen || err != nil && legacy // nf_tables may be missing beside legacy
		if same && lastError == "" && !(legacy && now.Sub(lastList) >= legacyEvery) {
			if !legacy {
				lastGood = now
			}
			continue
		}
		lastList = now
		broken, err := f.heal()
		if err != nil {
			failed()
			look.Reset(keepEvery)
			if err.Error() != lastError { // log it once, until the error changes
				lastError = err.Error()
				f.log.Error("the firewall rules are not all in place and cannot be repaired: packets are missed", "error", err)
			}
			continue
		}
		if broken || lastError != "" {
			gap := Gap{lastGood, time.Now()}
			f.log.Warn("somebody changed the firewall: our rules are in place again", slog.Time("since", gap.Since), slog.Time("until", gap.Until))
			healed(gap)
		}
		if seen = generation; broken {
			seen-- // our own change raised it: look once more, as others may have changed it too
			look.Reset(keepEvery)
		}
		lastGood, lastError = now, ""
	}
}

// heal installs the rules again if they are not right.
func (f *Firewall) heal() (broken bool, err error) {
	s, err := f.Status()
	if err != nil {
		return false, fmt.Errorf("look at the firewall rules: %w", err)
	}
	if s.Healthy() {
		return false, nil
	}
	return true, f.Install()
}

// Programs returns the paths of the programs that the Firewall runs.
func (f *Firewall) Programs() []string {
	var paths []string
	for _, t := range f.tools {
		paths = append(paths, t.path)
	}
	return paths
}
