package tracer

import (
	"io"
	"path"

	"culprit/internal/event"
	"culprit/internal/proc"
	"culprit/internal/strace"
	"culprit/internal/words"
)

// recording is the file of a trace while strace runs: our header, what strace prints, as
// far as it fits, and our footer.
type recording struct {
	io.Writer // into the chain
	out       *counter
	header    int64 // its size
	limit     *limiter
	fate      fate
}

// record begins the file of the trace with our header. call are the arguments of the system call
// in which the kernel stopped the process, if it did.
func (t *Tracer) record(file io.Writer, attached bool, call []string) *recording {
	r := &recording{out: &counter{w: file}, fate: fate{pid: t.job.ID.PID}}
	h := strace.Header{Trace: &t.doc, Hit: t.job.Hit}
	if h.Hit != nil {
		h.Origin = words.Origin(h.Hit)
	}
	r.out.Write(h.Append(nil))
	var seen []byte // it counts as a line of the trace
	if attached && t.job.Frozen != nil && h.Hit != nil && h.Hit.Culprit.Sent != nil {
		seen = strace.AppendSent(nil, h.Hit, call, t.ran)
	}
	r.out.Write(seen)
	r.header = r.out.n
	r.limit = &limiter{w: r.out, left: t.job.Bound - int64(len(seen)), reached: func() { t.Detach(event.Ended{Code: event.EndedTraceBytes}) }}
	r.Writer = watchLines(r.limit, r.fate.line)
	return r
}

// hasLines reports whether strace has printed anything.
func (r *recording) hasLines() bool { return r.out.n+r.limit.lost > r.header }

// finish ends the file with our footer, and says how the trace ended. The last line before
// the footer may have been cut.
func (r *recording) finish(how outcome) Ending {
	end := Ending{Because: how.because(r.fate.exitCode), ExitCode: r.fate.exitCode, Program: r.fate.program, Lost: r.limit.lost}
	if r.limit.err != nil {
		end.Because = event.Ended{Code: event.EndedNotWritten, Detail: r.limit.err.Error()}
	}
	var lines []byte
	if r.out.last != '\n' {
		lines = append(lines, '\n')
	}
	f := strace.Footer{Ended: words.TraceEnded(&end.Because), Dropped: end.Lost, ExitCode: end.ExitCode}
	if p := end.Program; p != nil {
		f.Executable, f.CommandLine = p.Executable, p.CommandLine
	}
	r.out.Write(f.Append(lines))
	end.Size = r.out.n
	return end
}

// fate follows what the lines of a trace say of one process: which program it runs, and how
// it ended.
type fate struct {
	pid      int
	exitCode *int          // nil until it has ended
	program  *proc.Program // the last that it became; nil: it stayed what it was
	next     *proc.Program // what it becomes if its execve succeeds
}

// line takes in a line of the trace. A line that is cut still has its end.
func (f *fate) line(line, end []byte) {
	tid, _, text := strace.ParseLine(line)
	if text == nil || tid != f.pid {
		return
	}
	switch text.Kind() {
	case strace.KindCall:
		f.next = nil
		if executable, args, ok := text.Execve(); ok {
			f.next = &proc.Program{
				Name: path.Base(executable), Executable: executable, CommandLine: proc.JoinArgs(args, proc.MaxCommandLine),
			}
			f.execve(end)
		}
	case strace.KindResumed:
		if _, ok := text.CutResumed("execve"); ok {
			f.execve(end)
		}
	case strace.KindEnd:
		if code, ok := text.ExitStatus(); ok {
			f.exitCode = &code
		}
	}
}

// execve takes in how the line of an execve ends. Many shells try a program in each
// directory of PATH: only one that was started counts.
func (f *fate) execve(end []byte) {
	if f.next != nil && strace.ExecveSucceeded(end) {
		f.program, f.next = f.next, nil
	}
}
