package strace

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// ErrNotInstalled says that no strace is in PATH.
var ErrNotInstalled = errors.New("find strace: it is not in PATH: install the package strace")

// A Program is an installed strace.
type Program struct {
	Path         string
	Major, Minor int
	Stacks       string // the library that prints call stacks (-k); empty: not supported
}

// Version returns the version as people write it: "6.1".
func (p Program) Version() string { return fmt.Sprintf("%d.%d", p.Major, p.Minor) }

// Before reports whether the version is older than the given one.
func (p Program) Before(major, minor int) bool {
	return p.Major < major || p.Major == major && p.Minor < minor
}

// Find looks for strace in PATH and asks for its version and features, within five seconds.
func Find(ctx context.Context) (Program, error) {
	path, err := exec.LookPath("strace")
	if err != nil {
		return Program{}, ErrNotInstalled
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "-V").Output()
	if err != nil {
		return Program{}, fmt.Errorf("run %s -V: %w: reinstall the package strace", path, err)
	}
	p, err := parse(string(out))
	if err != nil {
		return Program{}, fmt.Errorf("run %s -V: %w: reinstall the package strace", path, err)
	}
	p.Path = path
	return p, nil
}

// CheckSyscalls asks strace whether it accepts a set of system calls for -e trace=.
func (p Program) CheckSyscalls(ctx context.Context, set string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	// No process has the PID 0, but strace checks the set first.
	out, _ := exec.CommandContext(ctx, p.Path, "-e", "trace="+set, "-o", "/dev/null", "-p", "0").CombinedOutput()
	if first, _, _ := strings.Cut(string(out), "\n"); !strings.Contains(first, "process id") {
		return fmt.Errorf("strace does not take the system calls %q: %s", set, first)
	}
	return nil
}

// Options are what can differ between traces.
type Options struct {
	Strings  int    // bytes shown of each string (-s)
	Syscalls string // what to trace, in the syntax of -e trace=; empty: all system calls
	Stacks   bool   // show the call stack of each system call (-k), if this strace supports that
}

// outputFile is strace's output: the first of exec.Cmd's ExtraFiles.
const outputFile = "/proc/self/fd/3"

// Command returns strace and its arguments for one process and its future children (man 1
// strace): times with microseconds and durations, descriptors and sockets by name, nothing
// abbreviated. It writes to descriptor 3. Its messages begin with the first argument, see
// [Attached].
func (p Program) Command(o Options, pid int) []string {
	args := []string{"strace", "-f", "-ttt", "-T", "-yy", "-v", "-s", strconv.Itoa(o.Strings)}
	if o.Syscalls != "" {
		args = append(args, "-e", "trace="+o.Syscalls)
	}
	if o.Stacks && p.Stacks != "" {
		args = append(args, "-k")
	}
	return append(args, "-o", outputFile, "-p", strconv.Itoa(pid))
}

var versionLine = regexp.MustCompile(`^strace -- version (\d+)\.(\d+)`)

// parse reads the output of strace -V. It has the line of features since 4.19.
func parse(out string) (Program, error) {
	m := versionLine.FindStringSubmatch(out)
	if m == nil {
		first, _, _ := strings.Cut(out, "\n")
		return Program{}, fmt.Errorf("no version in %q", first)
	}
	major, err1 := strconv.Atoi(m[1])
	minor, err2 := strconv.Atoi(m[2])
	if err := errors.Join(err1, err2); err != nil {
		return Program{}, err
	}
	p := Program{Major: major, Minor: minor}
	_, features, _ := strings.Cut(out, "Optional features enabled:")
	features, _, _ = strings.Cut(features, "\n")
	for f := range strings.FieldsSeq(features) {
		if lib, found := strings.CutPrefix(f, "stack-trace="); found {
			p.Stacks = lib
		} else if f == "stack-unwind" || f == "stack-trace" { // before 4.21
			p.Stacks = "libunwind"
		}
	}
	return p, nil
}
