package capture

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"

	"culprit/internal/config"
)

// Strace is the strace program of this machine.
type Strace struct {
	Path    string
	Version string // such as "6.1"
	Stacks  bool   // built with support for stack traces, -k
}

// FindStrace looks for strace in PATH and asks it what it can do.
func FindStrace(ctx context.Context) (Strace, error) {
	path, err := exec.LookPath("strace")
	if err != nil {
		return Strace{}, errors.New("find strace: it is not in PATH: install the package strace")
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "-V").Output()
	if err != nil {
		return Strace{}, fmt.Errorf("ask %s for its version: %w", path, err)
	}
	return parseVersion(path, out), nil
}

func parseVersion(path string, out []byte) Strace {
	first, rest, _ := strings.Cut(string(out), "\n")
	return Strace{
		Path:    path,
		Version: first[strings.LastIndexByte(first, ' ')+1:],
		Stacks:  strings.Contains(rest, "stack-trace="),
	}
}

// outputFD is where strace finds the pipe to write to.
const outputFD = "/proc/self/fd/3"

// command is strace with its arguments for one process, as man strace has them:
// follow forks, times with microseconds and durations, names of descriptors and
// sockets, nothing abbreviated. The first is the name that strace's messages
// begin with.
func (s Strace) command(l config.Level, pid int) []string {
	args := []string{"strace", "-f", "-ttt", "-T", "-yy", "-v", "-s", strconv.Itoa(l.Strings)}
	if l.Syscalls != "" {
		args = append(args, "-e", "trace="+l.Syscalls)
	}
	if l.Stacks && s.Stacks {
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
