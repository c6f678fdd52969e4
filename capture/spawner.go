package capture

import (
	"context"
	"os/exec"
	"runtime"
	"syscall"
)

// spawner starts straces, all on one thread that lives as long as the daemon.
// Parent-death signals are tied to the thread that forked (PR_SET_PDEATHSIG in
// man 2 prctl): so straces die with the daemon, however it dies, and not sooner.
// When a strace dies, the kernel detaches and resumes what it traced.
type spawner struct {
	starts chan start
}

type start struct {
	cmd  *exec.Cmd
	done chan error
}

func newSpawner() spawner { return spawner{starts: make(chan start)} }

// run starts commands until the context ends. The thread lives on after that, so
// that the last straces can be ended in order.
func (s spawner) run(ctx context.Context) {
	runtime.LockOSThread()
	for {
		select {
		case req := <-s.starts:
			// In a process group of its own a strace gets no Ctrl-C from a terminal:
			// it is for us to end it.
			req.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
			req.done <- req.cmd.Start()
		case <-ctx.Done():
			return
		}
	}
}

func (s spawner) start(ctx context.Context, cmd *exec.Cmd) error {
	req := start{cmd: cmd, done: make(chan error, 1)}
	select {
	case s.starts <- req:
		return <-req.done
	case <-ctx.Done():
		return ctx.Err()
	}
}
