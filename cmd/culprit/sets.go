package main

import (
	"fmt"
	"io"

	"culprit/fleet/sets"
	"culprit/internal/config"
)

// withSets returns a configuration with the rules that its daemon has from the fleet.
func withSets(c *config.Config, stderr io.Writer) *config.Config {
	if !c.Fleet.Enabled() || len(c.Fleet.Accept) == 0 {
		return c
	}
	keys, _ := sets.ParseKeys(c.Fleet.Keys)
	rules, err := sets.Kept(sets.In(c.Evidence.Dir), sets.Trust{Fleet: c.Fleet.Name, Keys: keys})
	if err != nil {
		fmt.Fprintf(stderr, "warning: without the rules of the fleet: %v\n", err)
	}
	return c.With(rules)
}
