package rules

import (
	"context"
	"testing"
	"time"

	"culprit/internal/testkit"
)

// Each change of nf_tables is told, whoever makes it and with whatever tool; looking is no change.
func TestChangesAreTold(t *testing.T) {
	t.Parallel()
	e := newEnv(t, BackendNFT)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var changes <-chan struct{}
	e.ok(t, func() (err error) {
		changes, err = nftChanges(ctx)
		return err
	})
	for _, change := range [][]string{
		{"nft", "add", "table", "inet", "theirs"},
		{"nft", "flush", "ruleset"},
		{"iptables", "-t", "raw", "-A", "OUTPUT", "-j", "ACCEPT"},
		{"iptables", "-t", "raw", "-F"},
	} {
		for len(changes) > 0 { // some are made in two steps
			<-changes
		}
		e.Must(t, change[0], change[1:]...)
		select {
		case <-changes:
		case <-time.After(testkit.Patience):
			t.Fatalf("nothing was told of %v", change)
		}
	}
	cancel()
	for range changes { // it is closed
	}
}
