package capture

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"culprit/internal/event"
	"culprit/internal/proc"
	"culprit/internal/strace"
	"culprit/internal/words"
)

// detachPatience is how long a strace that was asked to end may take. Then it is
// killed, and the kernel detaches what it traced.
const detachPatience = 3 * time.Second

// pulseEvery is how often a strace is looked at, whether somebody stopped it.
const pulseEvery = time.Second

// tracer runs one strace on one process. Its goroutines own its trace. Whoever made it
// tells it to stop by detach, and hears of it by its output.
type tracer struct {
	tools tools
	id    proc.ID
	hit   *event.Hit  // the hit that triggered it, nil by hand
	trace event.Trace // what is known of it
	held  bool        // the gate holds the process in its execve
	bound int64       // of the trace file, in bytes
	stop  chan event.Ended
}

// tools are what a tracer needs of others.
type tools struct {
	strace string // its path
	files  TraceFiles
	start  starter
	guard  tracerGuard
	fs     proc.FS
	users  *proc.Users
}

// starter starts a strace. Closing the lifeline kills what it leaves behind.
type starter interface {
	start(*exec.Cmd) (lifeline io.Closer, err error)
}

// tracerGuard says who traces a process already, see [finder.Guard].
type tracerGuard interface {
	TracedBy(proc.Status) (who *event.Untraced, ours bool)
}

// tracerOutput takes what a tracer learns. The first two come, in any order, if strace got
// onto the process; the last always does.
type tracerOutput interface {
	attached(attachment)
	described(description)
	ended(ending)
}

// attachment says that strace is on the process.
type attachment struct {
	at     time.Time
	strace int // PID
}

// description says what the process is, and where its trace is.
type description struct {
	at        time.Time // when the process was looked at
	process   event.Process
	container *event.Container
	file      event.File
}

// ending says that strace has ended, and how.
type ending struct {
	refused    *event.Missed // why strace never was on the process, or its trace could not be kept
	because    event.Ended
	exitCode   *int
	program    *proc.Program // the last that the process became, if the trace shows it
	size, lost int64         // bytes kept and dropped
	at         time.Time
}

// detach asks the strace to let go of the process, once. The first reason counts.
func (t *tracer) detach(reason event.Ended) {
	select {
	case t.stop <- reason:
	default:
	}
}

// run traces until the process has ended or the tracer is told to stop.
func (t *tracer) run(news tracerOutput) {
	var end ending
	defer func() {
		end.at = time.Now()
		news.ended(end)
	}()
	miss := func(why event.Untraced) {
		end.refused = &event.Missed{PID: t.id.PID, CommandLine: t.trace.Process.CommandLine, Reason: why}
	}

	if err := t.tools.files.Room(); err != nil {
		miss(event.Untraced{Code: event.UntracedNoFile, Detail: err.Error()})
		return
	}
	st, err := t.start()
	if err != nil {
		miss(event.Untraced{Code: event.UntracedNotStarted, Detail: err.Error()})
		return
	}
	defer st.close()

	type message struct {
		text string
		told bool
	}
	messages := make(chan message, 1)
	on := make(chan struct{}) // closed when strace is on the process, or ends
	go func() {
		text, told := t.readMessages(st, news, sync.OnceFunc(func() { close(on) }))
		messages <- message{text, told}
	}()
	finished := make(chan struct{})
	stopped := make(chan *event.Ended, 1)
	go func() { stopped <- t.awaitStop(st.cmd, finished) }()
	waited := make(chan error, 1)
	go func() {
		waited <- st.wait()
		close(finished)
	}()

	// Look at the process when strace is on it, not while that competes with us for
	// the processor. One that the gate holds is still its old self then: its first
	// system call shows that it has become the new.
	buf := make([]byte, 64<<10)
	first := 0
	if t.held {
		first, _ = st.output.Read(buf)
	} else {
		<-on
	}
	looked := time.Now()
	t.look()
	file, err := t.tools.files.Create(&t.trace)
	if err != nil {
		t.detach(event.Ended{Code: event.EndedNotWritten, Detail: err.Error()})
		io.Copy(io.Discard, st.output)
		<-messages
		<-waited
		miss(event.Untraced{Code: event.UntracedNoFile, Detail: err.Error()})
		return
	}
	defer file.Close()
	news.described(description{looked, t.trace.Process, t.trace.Container, t.trace.File})
	out := &counter{w: file}
	out.Write(t.header())
	headerSize := out.n
	limit := &limiter{w: out, left: t.bound, reached: func() {
		t.detach(event.Ended{Code: event.EndedTraceBytes})
	}}
	fate := fate{pid: t.id.PID}
	watch := watchLines(limit, fate.line)
	watch.Write(buf[:first])
	copyInGulps(watch, st.output, buf)

	end.exitCode, end.program = fate.exitCode, fate.program
	said := <-messages
	waitErr := <-waited
	reason := <-stopped
	if !said.told && reason == nil && out.n+limit.lost > headerSize { // a strace with other words
		news.attached(attachment{time.Now(), st.cmd.Process.Pid})
		said.told = true
	}
	if !said.told {
		if reason != nil {
			miss(notAttached(*reason))
		} else {
			why := refusal(said.text)
			if status, err := t.tools.fs.Status(t.id.PID); err == nil {
				if who, _ := t.tools.guard.TracedBy(status); who != nil { // who was quicker
					why = *who
				}
			}
			miss(why)
		}
		os.Remove(t.trace.File.Path)
		return
	}
	end.because = because(reason, end.exitCode, waitErr)
	if limit.err != nil {
		end.because = event.Ended{Code: event.EndedNotWritten, Detail: limit.err.Error()}
	}
	end.lost = limit.lost
	out.Write(end.footer(out.last != '\n'))
	end.size = out.n
}

// header is what the trace file says of what it belongs to.
func (t *tracer) header() []byte {
	h := strace.Header{Trace: &t.trace, Hit: t.hit}
	if t.hit != nil {
		h.Origin = words.Origin(t.hit)
	}
	return h.Append(nil)
}

// footer is what the trace file says of how the trace ended. Behind a line that was cut
// it begins with a line end.
func (m *ending) footer(cut bool) (lines []byte) {
	f := strace.Footer{Ended: words.TraceEnded(&m.because), Dropped: m.lost, ExitCode: m.exitCode}
	if p := m.program; p != nil {
		f.Executable, f.CommandLine = p.Executable, p.CommandLine
	}
	if cut {
		lines = append(lines, '\n')
	}
	return f.Append(lines)
}

// look describes the process, as far as it is still there. In the middle of an execve it
// has an executable, but no arguments yet: that is over in a moment.
func (t *tracer) look() {
	p, err := t.tools.fs.Describe(t.id.PID, t.tools.users)
	for range 5 {
		if err != nil || p.CommandLine != "" || p.Executable == "" {
			break
		}
		time.Sleep(time.Millisecond)
		p, err = t.tools.fs.Describe(t.id.PID, t.tools.users)
	}
	if err != nil || p.EntityID != t.id.String() {
		return
	}
	// One that is just ending has lost some of this already, and one that the gate
	// holds is not yet what it is about to become.
	if is := t.trace.Process; is.Executable != "" && (p.Executable == "" || t.held && p.Executable != is.Executable) {
		p.Name, p.Executable, p.CommandLine = is.Name, is.Executable, is.CommandLine
	}
	p.CommandLine = cmp.Or(p.CommandLine, p.Executable)
	t.trace.Process = p
	if id := t.tools.fs.ContainerID(t.id.PID); id != "" {
		t.trace.Container = &event.Container{ID: id}
	}
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// notAttached says why a process is not traced whose strace was told to let go before it
// was on it.
func notAttached(told event.Ended) event.Untraced {
	if told.Code == event.EndedNewProcess {
		return event.Untraced{Code: event.UntracedGone}
	}
	return event.Untraced{Code: event.UntracedStopped, Detail: string(told.Code)}
}

// because says why a trace ended.
func because(told *event.Ended, exitCode *int, waitErr error) event.Ended {
	var exit *exec.ExitError
	switch {
	case told != nil:
		return *told
	case exitCode != nil:
		return event.Ended{Code: event.EndedExited, Detail: strconv.Itoa(*exitCode)}
	case errors.As(waitErr, &exit) && exit.Sys().(syscall.WaitStatus).Signaled():
		return event.Ended{Code: event.EndedStraceKilled, Detail: exit.Sys().(syscall.WaitStatus).Signal().String()}
	}
	return event.Ended{Code: event.EndedStrace}
}

// running is a strace that was started.
type running struct {
	cmd            *exec.Cmd
	output, stderr *os.File
	lifeline       io.Closer
}

func (st running) close() {
	st.output.Close()
	st.stderr.Close()
}

// wait waits until strace has ended. A strace that is ended while it starts can
// leave a child of its own behind, stopped, with our pipes in its hands: it tries
// out ptrace on children. That goes with the lifeline.
func (st running) wait() error {
	err := st.cmd.Wait()
	st.lifeline.Close()
	return err
}

// start starts strace with its output in a pipe of ours. When nobody reads the
// pipe any more, strace dies of it and the process lives on untraced: that is
// what we want should the daemon die.
func (t *tracer) start() (running, error) {
	output, outputW, err := os.Pipe()
	if err != nil {
		return running{}, err
	}
	defer outputW.Close()
	// A full pipe stops the traced process: make it large. Best effort.
	const pipeSize = 1 << 20
	if conn, err := outputW.SyscallConn(); err == nil {
		conn.Control(func(fd uintptr) { unix.FcntlInt(fd, unix.F_SETPIPE_SZ, pipeSize) })
	}
	stderr, stderrW, err := os.Pipe()
	if err != nil {
		output.Close()
		return running{}, err
	}
	defer stderrW.Close()
	args := t.trace.Culprit.Command
	cmd := &exec.Cmd{
		Path:       t.tools.strace,
		Args:       args,
		Env:        append(os.Environ(), "LC_ALL=C"), // we read its messages
		Stderr:     stderrW,
		ExtraFiles: []*os.File{outputW},
	}
	lifeline, err := t.tools.start.start(cmd)
	if err != nil {
		output.Close()
		stderr.Close()
		return running{}, err
	}
	return running{cmd, output, stderr, lifeline}, nil
}

// readMessages reads what strace says on standard error and returns the first of
// it. It tells when strace is on the process.
func (t *tracer) readMessages(run running, news tracerOutput, on func()) (text string, told bool) {
	defer on()
	const keep = 4 << 10
	var kept bytes.Buffer
	lines := bufio.NewReader(run.stderr)
	for {
		line, err := lines.ReadSlice('\n')
		if kept.Len() < keep {
			kept.Write(line)
		}
		if !told && strace.Attached(string(bytes.TrimSpace(line)), t.id.PID) {
			// From now on the PID cannot become another's; it may have before.
			if st, err := t.tools.fs.Stat(t.id.PID); err == nil && st.ID != t.id {
				t.detach(event.Ended{Code: event.EndedNewProcess})
				continue
			}
			told = true
			calm(run.cmd.Process.Pid)
			news.attached(attachment{time.Now(), run.cmd.Process.Pid})
			on()
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return kept.String(), told
		}
	}
}

// awaitStop ends strace when the tracer is told to, and returns the reason; nil if
// strace finished by itself. SIGTERM makes strace detach in good order.
//
// A strace that somebody stopped holds up its process, at the next system call at
// the latest, for as long as it is stopped. It is killed: then the kernel detaches.
func (t *tracer) awaitStop(cmd *exec.Cmd, finished <-chan struct{}) *event.Ended {
	pulse := time.NewTicker(pulseEvery)
	defer pulse.Stop()
	for {
		select {
		case <-finished:
			return nil
		case <-pulse.C:
			if st, err := t.tools.fs.Stat(cmd.Process.Pid); err != nil || st.State != stoppedState || cmd.Process.Kill() != nil {
				continue
			}
			<-finished
			return &event.Ended{Code: event.EndedStraceStopped}
		case reason := <-t.stop:
			cmd.Process.Signal(syscall.SIGTERM)
			select {
			case <-finished:
			case <-time.After(detachPatience):
				cmd.Process.Kill()
			}
			return &reason
		}
	}
}

// stoppedState is the state of a process that a signal stopped (man 5 proc).
const stoppedState = 'T'
