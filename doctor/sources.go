package doctor

import (
	"context"

	"culprit/internal/config"
	"culprit/internal/connector"
	"culprit/internal/sockdiag"
)

// socketDiag says whether the kernel tells whose socket a packet came from.
func socketDiag(context.Context, *config.Config) Check {
	if err := sockdiag.Probe(); err != nil {
		return warn(err.Error(), "load it: modprobe -a inet_diag udp_diag tcp_diag. Without it a hit's process is found less often, by /proc alone")
	}
	return ok("the kernel tells whose socket it is (inet_diag)")
}

// processEvents says whether the kernel tells of new processes.
func processEvents(context.Context, *config.Config) Check {
	if !isRoot() {
		return cannotTell()
	}
	conn, err := connector.Open()
	if err != nil {
		return warn(err.Error(), "needs a kernel with CONFIG_PROC_EVENTS, and the machine's first PID and user namespace (see container). Without it new processes are found later, by /proc alone")
	}
	conn.Close()
	return ok("the kernel tells of every fork and exec (proc connector)")
}
