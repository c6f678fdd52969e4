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

	"golang.org/x/sys/unix"

	"culprit/capture/snapshot"
	"culprit/internal/container"
	"culprit/internal/event"
	"culprit/internal/proc"
)

// Tracer runs one strace. Make one with [New], and let [Tracer.Run] run.
type Tracer struct {
	tools Tools
	job   Job
	doc   event.Trace // what is known of the trace; owned by the goroutine of Run
	ran   bool        // see [Description]
	stop  chan event.Ended
}

// Job is what one tracer has to do.
type Job struct {
	ID    proc.ID
	TID   int         // the thread that strace attaches to first, see [proc.FS.Lead]
	Trace event.Trace // with the command to start
	Hit   *event.Hit  // that the trace belongs to; nil in a capture by hand
	Held  bool        // the gate holds the process in its execve
	// Stopped says that the kernel stops the process by SIGSTOP, for StoppedFor at most.
	Stopped    bool
	StoppedFor time.Duration
	Bound      int64 // of the trace file, in bytes
	// Frozen says that the process stands still since it sent the packet of Hit, stopped by a
	// signal and traced by nobody: a snapshot of it is taken before strace starts. nil: it does not.
	Frozen *Frozen
}

// Frozen is a process that stands still.
type Frozen struct {
	TID int // the thread that sent the packet; 0: the first
	// Since is when it was stopped, and Until when it goes on at the latest.
	Since, Until time.Time
	// Left is told when a tracer of ours has left the process stopped: it goes on, if its
	// time was up meanwhile.
	Left func()
}

// Tools are what all tracers need.
type Tools struct {
	Strace     string // the path
	Files      Files
	Spawner    Spawner
	Guard      Guard
	FS         proc.FS
	Users      *proc.Users
	Containers *container.Containers
	// Snapshots takes the snapshots of processes that stand still.
	Snapshots *snapshot.Taker
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
	At      time.Time  // when the process was looked at
	User    event.User // with who that is in the container
	Process event.Process
	Place   event.Place
	File    event.File
	// Ran says that a process that the kernel had stopped was let go on before strace was attached.
	Ran bool
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
	t.awaitStop()
	// Only one can trace a process, so eu-stack comes before strace.
	taken := t.snapshot()
	// When eu-stack lets go of it, the process runs in the kernel until it has stopped again. On a busy machine that
	// takes its time.
	t.awaitStop()
	t.ran = t.job.Frozen != nil && !t.isStopped()
	defer func() { taken.Record(false) }() // unless it was recorded
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
	t.look(st.finished)
	if !t.job.Held {
		t.yield(st)
	}
	if t.job.Frozen != nil && !t.ran {
		first, t.ran = st.stood(buf)
	}
	var call []string
	if !t.ran { // otherwise it is in another call by now
		call = taken.Call()
	}
	taken.Record(st.attached.Load())
	file, err := t.tools.Files.Create(&t.doc)
	if err != nil {
		t.Detach(event.Ended{Code: event.EndedNotWritten, Detail: err.Error()})
		io.Copy(io.Discard, st.output)
		<-st.outcome
		return t.missed(event.Untraced{Code: event.UntracedNoFile, Detail: err.Error()})
	}
	defer file.Close()
	out.Described(Description{looked, t.doc.User, t.doc.Process, t.doc.Place, t.doc.File, t.ran})
	rec := t.record(file, st.attached.Load(), call)
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

// yieldFor is how long a tracer lets straces that are starting go before it.
const yieldFor = 50 * time.Millisecond

// yield lets straces that are starting go before the rest of our work: when a capture
// starts, those of all processes of its user do. The pipe has room for what strace prints
// meanwhile.
func (t *Tracer) yield(st *running) {
	select {
	case <-t.tools.Spawner.starts.over():
	case <-st.finished:
	case <-time.After(yieldFor):
	}
}

// snapshot takes a snapshot of a process that stands still. It returns nil if there is none.
func (t *Tracer) snapshot() *snapshot.Snapshot {
	frozen := t.job.Frozen
	if frozen == nil || t.tools.Snapshots == nil {
		return nil
	}
	of := event.Snapshot{Rule: t.job.Trace.Rule, User: t.job.Trace.User}
	of.Culprit.Capture = t.job.Trace.Culprit.Capture
	of.Culprit.Trace = &event.Reference{ID: t.job.Trace.Event.ID}
	if h := t.job.Hit; h != nil {
		of.Rule, of.Culprit.Hit = &h.Rule, &event.Reference{ID: h.Event.ID}
	}
	// A third of the time is for what /proc says, one for the call stack, and the last one for
	// strace, which is what matters most: who comes late does without the stack.
	const parts = 3
	left := time.Until(frozen.Until)
	return t.tools.Snapshots.Take(snapshot.Request{
		ID: t.job.ID, TID: frozen.TID, Limit: max(left/parts, time.Millisecond), Of: of,
		// eu-stack would stop a process that has been let go on.
		Hurry: left < frozen.Until.Sub(frozen.Since)/2 || !t.isStopped(), Left: frozen.Left,
	})
}

func (t *Tracer) missed(why event.Untraced) Ending {
	return Ending{Refused: &event.Missed{PID: t.job.ID.PID, CommandLine: t.doc.Process.CommandLine, Reason: why}}
}

// awaitStop waits until a process that the kernel stops stands still. If strace attached before,
// it would pass the SIGSTOP on to the process after the SIGCONT that we send then, and
// nobody would let it go on.
//
// Its user may let it go on at once, again and again. Then it does not wait.
func (t *Tracer) awaitStop() {
	const sigstop, pause = 1 << (unix.SIGSTOP - 1), 100 * time.Microsecond
	if !t.job.Stopped {
		return
	}
	var c chances
	for until := time.Now().Add(t.job.StoppedFor); time.Now().Before(until); time.Sleep(pause) {
		ran, ranErr := t.tools.FS.Ran(t.job.ID.PID) // before the state: it may get a processor in between
		st, err := t.tools.FS.Stat(t.job.ID.PID)
		if err != nil || st.ID != t.job.ID || st.Dead() || t.isStopped() {
			return
		}
		waiting, err := t.tools.FS.Pending(t.job.ID.PID)
		if c.over(err == nil && waiting&sigstop != 0, st.State, ran, ranErr == nil) {
			return
		}
	}
}

// chances are how often a process could have stopped since SIGSTOP does not wait for it any more, and did not.
type chances struct {
	had uint64 // how long it had a processor by the last
	all int
}

// over counts one more, and reports whether it was let go on. While it waits for a processor, as it does when eu-stack has let go of it,
// it has none: on a busy machine that may take long. known says that the kernel tells how long it ran.
func (c *chances) over(waits bool, state byte, ran uint64, known bool) bool {
	const most, running = 20, 'R'
	if waits {
		*c = chances{}
	} else if !known || state != running || ran != c.had {
		c.had = ran
		c.all++
	}
	return c.all >= most
}

// isStopped reports whether the process stands still.
func (t *Tracer) isStopped() bool {
	const stopped = 'T'
	st, err := t.tools.FS.Stat(t.job.ID.PID)
	if err != nil || st.ID != t.job.ID {
		return false
	}
	if st.Ended() { // but not its other threads
		st, err = t.tools.FS.Stat(t.job.TID)
	}
	return err == nil && st.State == stopped
}

// look describes the process, as far as it is still there. In the middle of an execve it
// has an executable but no arguments, for a moment, or for as long as it waits for the disk there. strace is on it
// meanwhile, and has nothing to print.
func (t *Tracer) look(finished <-chan struct{}) {
	const most, longest = 50, 30 * time.Second
	pid, began := t.job.ID.PID, time.Now()
	p, err := t.tools.FS.Describe(pid, t.tools.Users)
	for n, ended := 0, false; err == nil && !ended && p.CommandLine == "" && p.Executable != ""; n++ {
		if time.Since(began) > longest || n >= most && !t.tools.FS.WaitsInExecve(pid) {
			break
		}
		select {
		case <-time.After(time.Duration(1+n/10) * time.Millisecond):
		case <-finished:
			ended = true
		}
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
	if place := t.tools.Containers.Of(pid); place.Container != nil {
		t.doc.Place = place
		t.tools.Containers.Inside(pid, &t.doc.User, t.doc.Process.RealUser)
	}
}
