package tracer

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"culprit/internal/event"
	"culprit/internal/strace"
)

// detachPatience is how long strace may take to detach. Then it is killed, and the kernel
// detaches what it traced.
const detachPatience = 3 * time.Second

// pulseEvery is how often we look whether somebody stopped strace.
const pulseEvery = time.Second

// running is a strace that was started.
type running struct {
	cmd            *exec.Cmd
	output, stderr *os.File
	lifeline       io.Closer
	on             chan struct{} // closed when strace is attached, or ends
	attached       atomic.Bool   // strace said that it is
	finished       chan struct{} // closed when it has ended
	outcome        chan outcome
}

// start starts strace, which prints into a pipe of ours. When nobody reads the pipe any
// more, strace dies of that and the process lives on untraced: that is what we want should
// the daemon die.
func (t *Tracer) start(out Output) (*running, error) {
	output, outputW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer outputW.Close()
	// A full pipe stops the traced process, so make it large. Best effort.
	const pipeSize = 1 << 20
	if conn, err := outputW.SyscallConn(); err == nil {
		conn.Control(func(fd uintptr) { unix.FcntlInt(fd, unix.F_SETPIPE_SZ, pipeSize) })
	}
	stderr, stderrW, err := os.Pipe()
	if err != nil {
		output.Close()
		return nil, err
	}
	defer stderrW.Close()
	cmd := &exec.Cmd{
		Path:       t.tools.Strace,
		Args:       t.doc.Culprit.Command,
		Env:        append(os.Environ(), "LC_ALL=C"), // we read its messages
		Stderr:     stderrW,
		ExtraFiles: []*os.File{outputW},
	}
	lifeline, err := t.tools.Spawner.start(cmd)
	if err != nil {
		output.Close()
		stderr.Close()
		return nil, err
	}
	st := &running{
		cmd: cmd, output: output, stderr: stderr, lifeline: lifeline,
		on: make(chan struct{}), finished: make(chan struct{}), outcome: make(chan outcome, 1),
	}
	t.follow(st, out)
	return st, nil
}

// follow reads what strace says, tells it to end when it has to, and waits for its end.
func (t *Tracer) follow(st *running, out Output) {
	var o outcome
	var parts sync.WaitGroup
	parts.Go(func() { o.said, o.attached = t.readMessages(st, out) })
	parts.Go(func() { o.told = t.awaitDetach(st) })
	parts.Go(func() { o.err = st.wait() })
	go func() {
		parts.Wait()
		st.outcome <- o
	}()
}

// wait waits until strace has ended. strace tries out ptrace on children of its own when it
// starts. If it is ended meanwhile, such a child can be left behind, stopped, with our pipes
// open. Closing the lifeline kills it.
func (st *running) wait() error {
	defer close(st.finished)
	err := st.cmd.Wait()
	st.lifeline.Close()
	return err
}

func (st *running) close() {
	st.output.Close()
	st.stderr.Close()
}

// stoodPatience is how long strace may take to say that the process stood still when it attached.
const stoodPatience = time.Second

// stood reads the first line into buf, and reports whether the process had been let go on when strace
// attached: if it stood still, that is what strace prints first.
func (st *running) stood(buf []byte) (n int, ran bool) {
	st.output.SetReadDeadline(time.Now().Add(stoodPatience))
	defer st.output.SetReadDeadline(time.Time{})
	for n < len(buf) {
		more, err := st.output.Read(buf[n:])
		n += more
		if line, _, whole := bytes.Cut(buf[:n], []byte("\n")); whole {
			_, _, text := strace.ParseLine(line)
			return n, !text.StoppedBy("SIGSTOP")
		}
		if err != nil {
			return n, errors.Is(err, os.ErrDeadlineExceeded)
		}
	}
	return n, true
}

// readMessages reads strace's standard error, and returns the beginning of it and whether
// strace has attached. It tells out when that happens.
func (t *Tracer) readMessages(st *running, out Output) (said string, attached bool) {
	id := t.job.ID
	on := sync.OnceFunc(func() {
		t.tools.Spawner.starts.end()
		close(st.on)
	})
	defer on()
	const keep = 4 << 10
	var kept bytes.Buffer
	lines := bufio.NewReader(st.stderr)
	for {
		line, err := lines.ReadSlice('\n')
		if kept.Len() < keep {
			kept.Write(line)
		}
		if !attached && strace.Attached(string(bytes.TrimSpace(line)), t.job.TID) {
			// From now on the PID cannot pass to another process. It may have before.
			if is, err := t.tools.FS.Stat(id.PID); err == nil && is.ID != id {
				t.Detach(event.Ended{Code: event.EndedNewProcess})
				continue
			}
			attached = true
			st.attached.Store(true)
			calm(st.cmd.Process.Pid)
			out.Attached(Attachment{time.Now(), st.cmd.Process.Pid})
			on()
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return kept.String(), attached
		}
	}
}

// awaitDetach makes strace detach when the tracer is told to, and returns why, or nil if
// strace ended by itself. At SIGTERM strace detaches in good order.
//
// If somebody stops strace, its processes stop, too, at their next system calls. So it is
// killed, and the kernel detaches them.
func (t *Tracer) awaitDetach(st *running) *event.Ended {
	const stopped = 'T' // the state of a process that a signal stopped (man 5 proc)
	strace := st.cmd.Process
	pulse := time.NewTicker(pulseEvery)
	defer pulse.Stop()
	for {
		select {
		case <-st.finished:
			return nil
		case <-pulse.C:
			if is, err := t.tools.FS.Stat(strace.Pid); err != nil || is.State != stopped || strace.Kill() != nil {
				continue
			}
			<-st.finished
			return &event.Ended{Code: event.EndedStraceStopped}
		case why := <-t.stop:
			strace.Signal(syscall.SIGTERM)
			select {
			case <-st.finished:
			case <-time.After(detachPatience):
				strace.Kill()
			}
			return &why
		}
	}
}

// outcome is how a strace has ended.
type outcome struct {
	said     string       // its messages, the beginning
	attached bool         // it said that it had attached
	told     *event.Ended // why it was made to detach; nil: it ended by itself
	err      error        // of wait(2)
}

// because says why the trace ended. exitCode is that of the process, nil if it is not known.
func (o outcome) because(exitCode *int) event.Ended {
	var exit *exec.ExitError
	switch {
	case o.told != nil:
		return *o.told
	case exitCode != nil:
		return event.Ended{Code: event.EndedExited, Detail: strconv.Itoa(*exitCode)}
	case errors.As(o.err, &exit) && exit.Sys().(syscall.WaitStatus).Signaled():
		return event.Ended{Code: event.EndedStraceKilled, Detail: exit.Sys().(syscall.WaitStatus).Signal().String()}
	}
	return event.Ended{Code: event.EndedStrace}
}

// notAttached says why strace did not attach.
func (t *Tracer) notAttached(o outcome) event.Untraced {
	switch {
	case o.told != nil && o.told.Code == event.EndedNewProcess:
		return event.Untraced{Code: event.UntracedGone}
	case o.told != nil:
		return event.Untraced{Code: event.UntracedStopped, Detail: string(o.told.Code)}
	}
	if status, err := t.tools.FS.Status(t.job.ID.PID); err == nil {
		if who, _ := t.tools.Guard.TracedBy(status); who != nil { // another tracer was quicker
			return *who
		}
	}
	code, said := strace.Refused(o.said)
	if code == event.UntracedGone {
		return event.Untraced{Code: code}
	}
	return event.Untraced{Code: code, Detail: said}
}
