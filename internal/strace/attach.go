package strace

import (
	"fmt"
	"strings"
)

// Attached reports whether a line of strace's standard error says that it is attached to the
// process: "strace: Process 812 attached", "… attached with 3 threads". The name has a path if
// a script runs the real strace.
func Attached(line string, pid int) bool {
	before, rest, ok := strings.Cut(line, fmt.Sprintf("strace: Process %d attached", pid))
	return ok && (before == "" || strings.HasSuffix(before, "/")) && (rest == "" || rest[0] == ' ')
}

// A Refusal is why strace did not attach.
type Refusal int

// Why strace did not attach.
const (
	RefusedOther     Refusal = iota // another message
	RefusedSilently                 // no message
	RefusedGone                     // there is no such process (ESRCH)
	RefusedForbidden                // the kernel does not allow it (EPERM)
)

// Refused reads the standard error of a strace that never attached. said is its first line
// without the name.
func Refused(stderr string) (why Refusal, said string) {
	said, _, _ = strings.Cut(strings.TrimPrefix(stderr, "strace: "), "\n")
	switch {
	case strings.Contains(stderr, "No such process"):
		why = RefusedGone
	case strings.Contains(stderr, "Operation not permitted"):
		why = RefusedForbidden
	case said == "":
		why = RefusedSilently
	}
	return why, said
}
