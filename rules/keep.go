package rules

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// keepEvery is how often Keep asks nf_tables whether anybody has changed anything, by
// the number of its generation. The tables of iptables-legacy have none: there it
// lists our chain, at every legacyEach look.
const (
	keepEvery  = time.Second
	legacyEach = 4
)

// A Gap is a time in which rules were missing or not the first to see a packet.
type Gap struct {
	// Since is when they were last seen to be right, Until when they were again.
	Since, Until time.Time
}

// Keep looks until the context ends whether the rules are still there: others flush
// the firewall, or load one of their own. If not it installs them again and tells
// healed, or failed, each time that it could not. Nobody else may use the Firewall
// meanwhile.
func (f *Firewall) Keep(ctx context.Context, healed func(Gap), failed func()) {
	ticker := time.NewTicker(keepEvery)
	defer ticker.Stop()
	legacy := slices.ContainsFunc(f.tools, func(t tool) bool { return t.backend == BackendLegacy })
	good, said := time.Now(), ""
	seen, _ := nftGeneration()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := time.Now()
		generation, err := nftGeneration()
		same := err == nil && generation == seen || err != nil && legacy // where there are no nf_tables
		if same && said == "" && !(legacy && n%legacyEach == 0) {
			if !legacy {
				good = now
			}
			continue
		}
		broken, err := f.heal()
		if err != nil {
			failed()
			if err.Error() != said { // once, until something else is wrong
				said = err.Error()
				f.log.Error("the firewall rules are not all in place and cannot be repaired: packets are missed", "error", err)
			}
			continue
		}
		if broken || said != "" {
			gap := Gap{good, time.Now()}
			f.log.Warn("somebody changed the firewall: our rules are in place again", slog.Time("since", gap.Since), slog.Time("until", gap.Until))
			healed(gap)
		}
		if seen = generation; broken {
			seen-- // we have changed it: look once more, others may have, too
		}
		good, said = now, ""
	}
}

// heal installs the rules again if they are not as they should be.
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

// Programs are the paths of the programs that a Firewall starts.
func (f *Firewall) Programs() []string {
	var paths []string
	for _, t := range f.tools {
		paths = append(paths, t.path)
	}
	return paths
}
