package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"

	"golang.org/x/sys/unix"

	"culprit/internal/config"
	"culprit/internal/strace"
)

// memoryLimit is the size, in bytes, above which the runtime returns memory instead of keeping
// it for the next flood. The memory in use is bounded by the queues, not by this.
const memoryLimit = 40 << 20

// prepareProcess makes settings for the whole process.
func prepareProcess() error {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
	// A panic, or the SIGABRT of systemd's watchdog, must end us by a signal. By default Go
	// exits with status 2, which means a wrong configuration, and systemd would not restart us.
	// No core: it would hold the data of others.
	debug.SetTraceback("crash")
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("forbid core dumps: %w", err)
	}
	return nil
}

// findStrace finds the strace of this machine, and checks that it supports what the
// configuration wants.
func findStrace(ctx context.Context, c *config.Config, log *slog.Logger) (strace.Program, error) {
	program, err := strace.Find(ctx)
	if err != nil {
		return program, err
	}
	if program.Stacks == "" && c.Capture.WantsStacks() {
		log.Warn("this strace was built without stack traces (-k): levels with stacks: true will have none", "strace", program.Version())
	}
	for i, l := range c.Capture.Levels {
		if l.Syscalls == "" {
			continue
		}
		if err := program.CheckSyscalls(ctx, l.Syscalls); err != nil {
			return program, fmt.Errorf("capture.levels[%d].syscalls: %w", i, err)
		}
	}
	return program, nil
}
