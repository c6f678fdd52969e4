// Package tracer runs straces. Each traces one process and its descendants, and what it
// prints goes into a file of the evidence. A [Tracer] tells its [Output] how that goes.
//
// A strace must not outlive us: its processes would stop once nobody reads what it prints.
// See [Spawner].
package tracer

import (
	"cmp"
	"io"
	"os"
	"time"

	"culprit/internal/event"
	"culprit/internal/proc"
)

// Tracer runs one strace. Make one with [New], and let [Tracer.Run] run.
type Tracer struct {
	tools Tools
	job   Job
	doc   event.Trace // what is known of the trace; owned by the goroutine of Run
	stop  chan event.Ended
}

// Job is what one tracer has to do.
type Job struct {
	ID    proc.ID
	Trace event.Trace // with the command to start
	Hit   *event.Hit  // that the trace belongs to; nil in a capture by hand
	Held  bool        // the gate holds the process in its execve
	Bound int64       // of the trace file, in bytes
}

// Tools are what all tracers need.
type Tools struct {
	Strace  string // the path
	Files   Files
	Spawner Spawner
	Guard   Guard
	FS      proc.FS
	Users   *proc.Users
}

// Files is where the files of traces are made.
type Files interface {
	// Room returns an error if there is no room for another trace.
	Room() error
	// Create makes the file of a trace, which only we may read, and sets File.Path.
	// Writing to it must not wait for anything but the disk.
	Create(*event.Trace) (io.WriteCloser, error)
}

// Guard says who traces a process already, or nil if nobody does.
type Guard interface {
	TracedBy(proc.Status) (who *event.Untraced, ours bool)
}

// Output takes what a tracer learns. Its methods may be called from several goroutines, and
// may wait. If strace attaches, the first two are called, in any order. The last is always
// called.
type Output interface {
	Attached(Attachment)
	Described(Description)
	Ended(Ending)
}

// Attachment says that strace is attached.
type Attachment struct {
	At     time.Time
	Strace int // its PID
}

// Description says what the process is, and where its trace is.
type Description struct {
	At        time.Time // when the process was looked at
	Process   event.Process
	Container *event.Container
	File      event.File
}

// Ending says that strace has ended, and how.
type Ending struct {
	At time.Time
	// Refused says why there is no trace, or is nil. If it is not, the rest is not set.
	Refused    *event.Missed
	Because    event.Ended
	ExitCode   *int          // nil: the trace does not show it
	Program    *proc.Program // the last that the process became; nil: the trace shows none
	Size, Lost int64         // bytes kept and dropped
}

// New makes a tracer. It starts nothing.
func New(tools Tools, job Job) *Tracer {
	return &Tracer{tools: tools, job: job, doc: job.Trace, stop: make(chan event.Ended, 1)}
}

// Detach makes strace detach. It never waits. The first reason counts.
func (t *Tracer) Detach(why event.Ended) {
	select {
	case t.stop <- why:
	default:
	}
}

// Run traces until all traced processes have ended, or strace is made to detach. The
// [Spawner] must be running.
func (t *Tracer) Run(out Output) {
	end := t.run(out)
	end.At = time.Now()
	out.Ended(end)
}

func (t *Tracer) run(out Output) Ending {
	if err := t.tools.Files.Room(); err != nil {
		return t.missed(event.Untraced{Code: event.UntracedNoFile, Detail: err.Error()})
	}
	st, err := t.start(out)
	if err != nil {
		return t.missed(event.Untraced{Code: event.UntracedNotStarted, Detail: err.Error()})
	}
	defer st.close()

	// Look at the process when strace is attached: until then we would compete with it for
	// the processor. A process that the gate holds is then still its old program. It is
	// the new one when strace prints its first system call.
	buf := make([]byte, 64<<10)
	first := 0
	if t.job.Held {
		first, _ = st.output.Read(buf)
	} else {
		<-st.on
	}
	looked := time.Now()
	t.look()
	file, err := t.tools.Files.Create(&t.doc)
	if err != nil {
		t.Detach(event.Ended{Code: event.EndedNotWritten, Detail: err.Error()})
		io.Copy(io.Discard, st.output)
		<-st.outcome
		return t.missed(event.Untraced{Code: event.UntracedNoFile, Detail: err.Error()})
	}
	defer file.Close()
	out.Described(Description{looked, t.doc.Process, t.doc.Container, t.doc.File})
	rec := t.record(file)
	rec.Write(buf[:first])
	copyInGulps(rec, st.output, buf)

	how := <-st.outcome
	if !how.attached && how.told == nil && rec.hasLines() { // we did not understand its message
		out.Attached(Attachment{time.Now(), st.cmd.Process.Pid})
		how.attached = true
	}
	if !how.attached {
		os.Remove(t.doc.File.Path)
		return t.missed(t.notAttached(how))
	}
	return rec.finish(how)
}

func (t *Tracer) missed(why event.Untraced) Ending {
	return Ending{Refused: &event.Missed{PID: t.job.ID.PID, CommandLine: t.doc.Process.CommandLine, Reason: why}}
}

// look describes the process, as far as it is still there. In the middle of an execve it
// has an executable but no arguments, for a moment.
func (t *Tracer) look() {
	pid := t.job.ID.PID
	p, err := t.tools.FS.Describe(pid, t.tools.Users)
	for range 5 {
		if err != nil || p.CommandLine != "" || p.Executable == "" {
			break
		}
		time.Sleep(time.Millisecond)
		p, err = t.tools.FS.Describe(pid, t.tools.Users)
	}
	if err != nil || p.EntityID != t.job.ID.String() {
		return
	}
	// A process that is ending has lost some of this already, and one that the gate holds is
	// not yet what it is about to become.
	if is := t.doc.Process; is.Executable != "" && (p.Executable == "" || t.job.Held && p.Executable != is.Executable) {
		p.Name, p.Executable, p.CommandLine = is.Name, is.Executable, is.CommandLine
	}
	p.CommandLine = cmp.Or(p.CommandLine, p.Executable)
	t.doc.Process = p
	if id := t.tools.FS.ContainerID(pid); id != "" {
		t.doc.Container = &event.Container{ID: id}
	}
}
