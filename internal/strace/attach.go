package strace

import (
	"fmt"
	"strings"

	"culprit/internal/event"
)

// Attached reports whether a line of strace's standard error says that it is attached to the
// process: "strace: Process 812 attached", "… attached with 3 threads". The name has a path if
// a script runs the real strace.
func Attached(line string, pid int) bool {
	before, rest, ok := strings.Cut(line, fmt.Sprintf("strace: Process %d attached", pid))
	return ok && (before == "" || strings.HasSuffix(before, "/")) && (rest == "" || rest[0] == ' ')
}

// Refused reads the standard error of a strace that never attached. said is its first line
// without the name of strace.
func Refused(stderr string) (why event.UntracedCode, said string) {
	said, _, _ = strings.Cut(strings.TrimPrefix(stderr, "strace: "), "\n")
	switch {
	case strings.Contains(stderr, "No such process"): // ESRCH
		why = event.UntracedGone
	case strings.Contains(stderr, "Operation not permitted"): // EPERM
		why = event.UntracedRefused
	case said == "":
		why = event.UntracedSilent
	default:
		why = event.UntracedOther
	}
	return why, said
}
