package rules

import (
	"context"
	"testing"
	"time"

	"culprit/internal/testkit"
)

// Each change of nf_tables is told, whoever makes it and with whatever tool. Looking is no change: the
// number that is told with one stays.
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
	generation := func() (n uint32) {
		t.Helper()
		e.ok(t, func() (err error) { n, err = nftGeneration(); return err })
		return n
	}
	before := generation()
	for _, look := range [][]string{{"nft", "list", "ruleset"}, {"iptables-save"}, {"iptables", "-t", "raw", "-S"}} {
		e.Must(t, look[0], look[1:]...)
		if after := generation(); after != before {
			t.Errorf("%v: the generation became %d, and was %d", look, after, before)
		}
	}
	cancel()
	for range changes { // it is closed
	}
}
