package tracer

import (
	"io"

	"culprit/internal/event"
	"culprit/internal/strace"
	"culprit/internal/words"
)

// recording is the file of a trace while strace runs: our header, what fits of what strace
// prints, our footer. It learns from the lines how the process fares.
type recording struct {
	io.Writer // into the chain
	out       *counter
	header    int64 // its size
	limit     *limiter
	fate      fate
}

// record begins the file of the trace.
func (t *Tracer) record(file io.Writer) *recording {
	r := &recording{out: &counter{w: file}, fate: fate{pid: t.job.ID.PID}}
	h := strace.Header{Trace: &t.doc, Hit: t.job.Hit}
	if h.Hit != nil {
		h.Origin = words.Origin(h.Hit)
	}
	r.out.Write(h.Append(nil))
	r.header = r.out.n
	r.limit = &limiter{w: r.out, left: t.job.Bound, reached: func() { t.Detach(event.Ended{Code: event.EndedTraceBytes}) }}
	r.Writer = watchLines(r.limit, r.fate.line)
	return r
}

// hasLines reports whether strace has printed anything.
func (r *recording) hasLines() bool { return r.out.n+r.limit.lost > r.header }

// finish ends the file, and says how the trace ended. A line may have been cut before the
// footer.
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
