package capture

import (
	"culprit/internal/config"
	"culprit/internal/event"
	"culprit/internal/strace"
)

// command is strace with its arguments for one process, at a level.
func command(p strace.Program, l config.Level, pid int) []string {
	return p.Command(strace.Options{Strings: l.Strings, Syscalls: l.Syscalls, Stacks: l.Stacks}, pid)
}

// refusal turns what strace said when it could not attach into a reason.
func refusal(stderr string) event.Untraced {
	why, said := strace.Refused(stderr)
	switch why {
	case strace.RefusedGone:
		return event.Untraced{Code: event.UntracedGone}
	case strace.RefusedForbidden:
		return event.Untraced{Code: event.UntracedRefused, Detail: said}
	case strace.RefusedSilently:
		return event.Untraced{Code: event.UntracedSilent}
	}
	return event.Untraced{Code: event.UntracedOther, Detail: said}
}
