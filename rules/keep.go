package rules

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// Keep asks nf_tables every keepEvery whether anything changed, by the number of its
// generation. The tables of iptables-legacy have no generation: for them it lists our chain,
// every legacyEach rounds.
const (
	keepEvery  = time.Second
	legacyEach = 4
)

// A Gap is a period in which rules were missing or not the first to see a packet.
type Gap struct {
	// Since is when they were last seen to be right, Until when they were right again.
	Since, Until time.Time
}

// Keep checks until the context ends that the rules are in place, because others flush the
// firewall or load one of their own. If they are not, it installs them again and calls healed,
// or failed each time it cannot. Nobody else may use the Firewall meanwhile.
func (f *Firewall) Keep(ctx context.Context, healed func(Gap), failed func()) {
	ticker := time.NewTicker(keepEvery)
	defer ticker.Stop()
	legacy := slices.ContainsFunc(f.tools, func(t tool) bool { return t.backend == BackendLegacy })
	lastGood, lastError := time.Now(), ""
	seen, _ := nftGeneration()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := time.Now()
		generation, err := nftGeneration()
		same := err == nil && generation == seen || err != nil && legacy // nf_tables may be missing beside legacy
		if same && lastError == "" && !(legacy && n%legacyEach == 0) {
			if !legacy {
				lastGood = now
			}
			continue
		}
		broken, err := f.heal()
		if err != nil {
			failed()
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
