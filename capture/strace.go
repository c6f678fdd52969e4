package capture

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"culprit/internal/config"
	"culprit/internal/strace"
)

// outputFD is where strace finds the pipe to write to.
const outputFD = "/proc/self/fd/3"

// command is strace with its arguments for one process, as man strace has them:
// follow forks, times with microseconds and durations, names of descriptors and
// sockets, nothing abbreviated. The first is the name that strace's messages
// begin with.
func command(p strace.Program, l config.Level, pid int) []string {
	args := []string{"strace", "-f", "-ttt", "-T", "-yy", "-v", "-s", strconv.Itoa(l.Strings)}
	if l.Syscalls != "" {
		args = append(args, "-e", "trace="+l.Syscalls)
	}
	if l.Stacks && p.Stacks != "" {
		args = append(args, "-k")
	}
	return append(args, "-o", outputFD, "-p", strconv.Itoa(pid))
}

// attached reports whether a line of strace's standard error says that it is on
// the process: "strace: Process 812 attached", "… attached with 3 threads".
func attached(line string, pid int) bool {
	rest, ok := strings.CutPrefix(line, fmt.Sprintf("strace: Process %d attached", pid))
	return ok && (rest == "" || rest[0] == ' ')
}

// refusal turns what strace said when it could not attach into a reason.
func refusal(stderr string) (reason, detail string) {
	first, _, _ := strings.Cut(strings.TrimPrefix(stderr, "strace: "), "\n")
	switch {
	case strings.Contains(stderr, "No such process"):
		return "gone before strace was on it", ""
	case strings.Contains(stderr, "Operation not permitted"):
		return "refused: traced by somebody else meanwhile, or a security module forbids it", first
	case first == "":
		return "strace ended without a word", ""
	}
	return "strace could not attach", first
}

// exitLine is how strace tells the end of a process: "812 1700000000.1 +++ exited
// with 3 +++". What the traced program writes appears inside quotes, with line
// ends escaped, so it cannot forge such a line.
var exitLine = regexp.MustCompile(`^(\d+) +[\d.]+ \+\+\+ (?:exited with (\d+)|killed by (\w+)(?: \(core dumped\))?) \+\+\+$`)

// exitStatus returns how process pid ended, if the line tells that: its exit code
// as shells count it, 128+n for signal n.
func exitStatus(line []byte, pid int) (code int, ok bool) {
	if !bytes.HasSuffix(line, []byte(" +++")) {
		return 0, false
	}
	m := exitLine.FindSubmatch(line)
	if m == nil || string(m[1]) != strconv.Itoa(pid) {
		return 0, false
	}
	if m[3] != nil {
		return 128 + signalNumber(string(m[3])), true
	}
	code, err := strconv.Atoi(string(m[2]))
	return code, err == nil
}
