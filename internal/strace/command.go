package strace

import "strconv"

// Options are what may differ from one trace to the other.
type Options struct {
	Strings  int    // bytes shown of each string (-s)
	Syscalls string // what to trace, as -e trace= takes it; empty: all system calls
	Stacks   bool   // show the call stack of each system call (-k), if this strace can
}

// outputFile is where strace writes to: the first of exec.Cmd's ExtraFiles.
const outputFile = "/proc/self/fd/3"

// Command returns strace with its arguments for one process and its future children
// (man 1 strace): times with microseconds and durations, descriptors and sockets by name,
// nothing abbreviated. It writes to descriptor 3. The first argument is the name that its
// messages begin with, see [Attached].
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
