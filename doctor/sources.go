package doctor

import (
	"context"

	"culprit/internal/config"
	"culprit/internal/connector"
	"culprit/internal/sockdiag"
)

// socketDiag checks whether the kernel tells which socket sent a packet.
func socketDiag(context.Context, *config.Config) Check {
	if err := sockdiag.Probe(); err != nil {
		return warn(err.Error(), "load it: modprobe -a inet_diag udp_diag tcp_diag. Without it culprit finds a hit's process less often, from /proc alone")
	}
	return ok("the kernel tells whose socket a packet came from (inet_diag)")
}

// processEvents checks whether the kernel reports new processes.
func processEvents(context.Context, *config.Config) Check {
	if !isRoot() {
		return cannotTell()
	}
	conn, err := connector.Open()
	if err != nil {
		return warn(err.Error(), "use a kernel with CONFIG_PROC_EVENTS, in the machine's first PID and user namespace (see container). Without it culprit finds new processes later, from /proc alone")
	}
	conn.Close()
	return ok("the kernel reports every fork and exec (proc connector)")
}
