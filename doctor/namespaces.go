package doctor

import (
	"context"
	"fmt"
	"strings"

	"culprit/daemon"
	"culprit/internal/config"
	"culprit/sensor"
)

// otherNamespaces sees the packets of other network namespaces as the daemon does, for a moment. If it is not to, that is
// tried all the same.
func otherNamespaces(ctx context.Context, c *config.Config) Check {
	if !isRoot() {
		return cannotTell()
	}
	wanted := *c
	host := c.OtherNamespaces() == nil
	if host {
		wanted.Namespaces = []string{config.NamespacesAll}
	}
	sc := daemon.SensorConfig(ctx, &wanted)
	sc.Ways, sc.Hold = nil, false
	s, err := sensor.Open(sc)
	freezes := false
	if err == nil {
		defer s.Close()
		err, freezes = s.NoOthers(), s.FreezesOthers()
	}
	return judgeNamespaces(c, host, freezes, err)
}

func judgeNamespaces(c *config.Config, host, freezes bool, err error) Check {
	switch {
	case host && err != nil:
		return ok("the host's only (namespaces: host), and others could not be seen here: %v", err)
	case host:
		return ok("the host's only: packets of containers with a network of their own are not seen; namespaces: all would work here")
	case err != nil:
		return fail(fmt.Sprintf("the packets of other network namespaces cannot be seen: %v", err), "set namespaces: host, or use Linux 5.15 or later with BTF and cgroup v2, and run culprit in the machine's own cgroup namespace")
	case c.Capture.Freeze == config.FreezeAuto && !freezes:
		return warn("the host's and "+strings.Join(c.OtherNamespaces(), ", ")+", whose senders are named, but cannot be stopped", "use Linux 6.16 or later; capture.freeze: off hides this")
	}
	return ok("the host's and %s", strings.Join(c.OtherNamespaces(), ", "))
}
