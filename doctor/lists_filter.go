package doctor

import (
	"context"
	"fmt"

	"culprit/internal/config"
	"culprit/lists/nfilter"
)

// listFilter loads the filter of lists as the daemon does, for a moment.
func listFilter(_ context.Context, c *config.Config) Check {
	if !isRoot() {
		return cannotTell()
	}
	err := nfilter.Probe()
	lists := false
	for _, r := range c.Rules {
		lists = lists || r.IsList()
	}
	switch {
	case err == nil && lists && c.OtherNamespaces() != nil:
		if err := nfilter.ProbeFunction(); err != nil {
			return warn(fmt.Sprintf("each question of other network namespaces to the ports of a rule with lists comes to user space, and nobody is stopped for it: %v", err), "a newer kernel (5.15)")
		}
		fallthrough
	case err == nil:
		return ok("the kernel looks up the names of lists, and lets only those up that may be listed")
	case lists:
		return warn(fmt.Sprintf("each question to the ports of a rule with lists comes to user space, some 10 µs of CPU each: %v", err), "a newer kernel (5.3); sysctl net.core.optmem_max of 20480 at least")
	}
	return ok("the kernel does not look up the names of lists, which no rule has: %v", err)
}
