package capture

import (
	"culprit/internal/config"
	"culprit/internal/strace"
)

// command is strace with its arguments for one process, at a level.
func command(p strace.Program, l config.Level, pid int) []string {
	return p.Command(strace.Options{Strings: l.Strings, Syscalls: l.Syscalls, Stacks: l.Stacks}, pid)
}
