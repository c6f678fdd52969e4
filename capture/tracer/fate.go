package tracer

import (
	"culprit/internal/proc"
	"culprit/internal/strace"
)

// fate follows what the lines of a trace say of one process: which program it has become,
// and how it ended.
type fate struct {
	pid      int
	exitCode *int          // nil until it has ended
	program  *proc.Program // the last that it became; nil: it stayed what it was
	before   *proc.Program // what it was before an execve that may fail yet
}

// line takes in a line of the trace.
func (f *fate) line(line []byte) {
	tid, _, text := strace.ParseLine(line)
	if text == nil || tid != f.pid {
		return
	}
	switch text.Kind() {
	case strace.KindCall:
		if e, ok := text.Execve(); ok {
			f.before = f.program
			f.program = &proc.Program{
				Name: e.Name(), Executable: e.Executable, CommandLine: proc.JoinArgs(e.Args, proc.MaxCommandLine),
			}
		}
	case strace.KindResumed:
		if text.ExecveFailed() {
			f.program = f.before
		}
	case strace.KindEnd:
		if code, ok := text.ExitStatus(); ok {
			f.exitCode = &code
		}
	}
}
