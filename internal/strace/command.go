package strace

import "strconv"

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
