package tracer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// Spawner starts straces, and eu-stack, so that they die when the daemon dies, however that
// happens, and not sooner. When a strace dies, the kernel detaches and resumes what it traced.
//
// Each strace has a parent-death signal from its first instruction on. That comes when the
// thread ends that forked (PR_SET_PDEATHSIG in man 2 prctl), so all are started on one
// thread, which lives as long as the daemon. It does not come to the children on which
// strace tries out ptrace when it starts. For these there is a lifeline.
type Spawner struct {
	orders chan func() // to be called on the thread
	starts *starts
}

// NewSpawner makes a spawner.
func NewSpawner() Spawner { return Spawner{make(chan func()), &starts{}} }

// Run starts straces until the context ends. Those that still run then are killed.
//
// They inherit the priority of the thread, until [calm] takes it away: straces that start
// compete with those that run, and with us for starting the next one, and their processes
// may wait in the gate, but not for ever.
func (s Spawner) Run(ctx context.Context) {
	runtime.LockOSThread()
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, -10) // this thread alone (man 2 setpriority)
	for {
		select {
		case start := <-s.orders:
			start()
		case <-ctx.Done():
			return
		}
	}
}

// start starts a strace, see Start. Unless it fails, the caller must call starts.end when the
// strace has attached or ended.
func (s Spawner) start(cmd *exec.Cmd) (lifeline io.Closer, err error) {
	s.starts.begin()
	if lifeline, err = s.Start(cmd); err != nil {
		s.starts.end()
	}
	return lifeline, err
}

// Start starts a command in a process group of its own, so that no Ctrl-C of a terminal
// reaches it. Closing the lifeline kills what is left of the group. Run must be running.
func (s Spawner) Start(cmd *exec.Cmd) (lifeline io.Closer, err error) {
	done := make(chan struct{})
	s.orders <- func() {
		defer close(done)
		lifeline, err = startWithLifeline(cmd)
	}
	<-done
	return lifeline, err
}

// startWithLifeline lets the group inherit the write end of a pipe whose read end we hold.
// When that closes, because we close it or are dead, the kernel sends the group the signal
// for input and output on the pipe, which is set to SIGKILL (F_SETSIG and F_SETOWN in man 2
// fcntl). Until that is set, the command is stopped at its first instruction
// (PTRACE_TRACEME).
func startWithLifeline(cmd *exec.Cmd) (io.Closer, error) {
	ours, theirs, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	defer theirs.Close()
	cmd.ExtraFiles = append(cmd.ExtraFiles, theirs)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true, Ptrace: true}
	if err := cmd.Start(); err != nil {
		ours.Close()
		return nil, err
	}
	pid := cmd.Process.Pid
	if err := errors.Join(
		setLifeline(theirs, pid),
		letRun(pid),
	); err != nil {
		cmd.Process.Kill()
		cmd.Wait()
		ours.Close()
		return nil, fmt.Errorf("tie %s to us: %w", cmd.Path, err)
	}
	return ours, nil
}

// calm gives a strace that has attached the priority that we have.
func calm(pid int) {
	if ours, err := unix.Getpriority(unix.PRIO_PROCESS, 0); err == nil {
		_ = unix.Setpriority(unix.PRIO_PROCESS, pid, 20-ours) // the system call's value is 20-nice
	}
}

func setLifeline(f *os.File, group int) error {
	for _, set := range [][2]int{{unix.F_SETSIG, int(unix.SIGKILL)}, {unix.F_SETOWN, -group}, {unix.F_SETFL, unix.O_ASYNC}} {
		if _, err := unix.FcntlInt(f.Fd(), set[0], set[1]); err != nil {
			return err
		}
	}
	return nil
}

// letRun resumes a command that is stopped at its first instruction. It must be called on
// the thread that started it.
func letRun(pid int) error {
	var status unix.WaitStatus
	for {
		_, err := unix.Wait4(pid, &status, unix.WALL, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("wait for it: %w", err)
		}
		if !status.Stopped() {
			return fmt.Errorf("wait for it: status %#x", status)
		}
		return unix.PtraceDetach(pid)
	}
}
