package containers

import (
	"fmt"
	"testing"

	"culprit/internal/testkit"
	"culprit/test/harness"
)

// A program in another network namespace lives two milliseconds. The namespace has no rule of ours, and its
// firewall is as it was.
func TestOtherNamespace(t *testing.T) {
	t.Parallel()
	for _, backend := range testkit.Backends {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			h, other := harness.NewHost(t, backend), harness.NewHost(t, backend)
			before := other.Firewall()
			domain, config := zone("all")
			d := h.Hunt(config)
			for i, args := range [][]string{{}, {"-s", "::1"}, {"-t"}, {"-t", "-s", "::1"}} {
				uid, name := harness.NewUID(), fmt.Sprintf("first-%d.%s", i, domain)
				p := other.StartAs(uid, harness.Programs.OffenderC, append([]string{"-n", name}, args...)...)
				if got := p.Wait(); got != 0 {
					t.Fatalf("the program ended with %d: %s", got, p.Output)
				}
				hit := caught(t, d, name, p.PID, uid)
				if hit.Culprit.Netns == nil || hit.Culprit.Netns.Inode == 0 {
					t.Errorf("the network namespace is %v", hit.Culprit.Netns)
				}
			}
			other.Unchanged(before, "during the hunt")
			d.Stop()
		})
	}
}
