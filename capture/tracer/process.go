package tracer

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"culprit/internal/event"
	"culprit/internal/strace"
)

// detachPatience is how long a strace that was asked to end may take. Then it is
// killed, and the kernel detaches what it traced.
const detachPatience = 3 * time.Second

// pulseEvery is how often a strace is looked at, whether somebody stopped it.
const pulseEvery = time.Second

// running is a strace that was started.
type running struct {
	cmd            *exec.Cmd
	output, stderr *os.File
	lifeline       io.Closer
	on             chan struct{} // closed when strace is on the process, or ends
	finished       chan struct{} // closed when it has ended
	outcome        chan outcome
}

// start starts strace with its output in a pipe of ours. When nobody reads the
// pipe any more, strace dies of it and the process lives on untraced: that is
// what we want should the daemon die.
func (t *Tracer) start(out Output) (*running, error) {
	output, outputW, err := os.Pipe()
	if err != nil {
		return nil, err
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

// wait waits until strace has ended. A strace that is ended while it starts can
// leave a child of its own behind, stopped, with our pipes in its hands: it tries
// out ptrace on children. That goes with the lifeline.
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

// readMessages reads what strace says on standard error and returns the first of
// it. It tells when strace is on the process.
func (t *Tracer) readMessages(st *running, out Output) (said string, attached bool) {
	id := t.job.ID
	defer func() {
		if !attached {
			close(st.on)
		}
	}()
	const keep = 4 << 10
	var kept bytes.Buffer
	lines := bufio.NewReader(st.stderr)
	for {
		line, err := lines.ReadSlice('\n')
		if kept.Len() < keep {
			kept.Write(line)
		}
		if !attached && strace.Attached(string(bytes.TrimSpace(line)), id.PID) {
			// From now on the PID cannot become another's; it may have before.
			if is, err := t.tools.FS.Stat(id.PID); err == nil && is.ID != id {
				t.Detach(event.Ended{Code: event.EndedNewProcess})
				continue
			}
			attached = true
			calm(st.cmd.Process.Pid)
			out.Attached(Attachment{time.Now(), st.cmd.Process.Pid})
			close(st.on)
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return kept.String(), attached
		}
	}
}

// awaitDetach ends strace when the tracer is told to, and returns why; nil if strace
// finished by itself. SIGTERM makes strace detach in good order.
//
// A strace that somebody stopped holds up its process, at the next system call at
// the latest, for as long as it is stopped. It is killed: then the kernel detaches.
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
