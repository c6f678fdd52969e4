package harness

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// A Process is a program that runs while the test goes on.
type Process struct {
	T      testing.TB
	Cmd    *exec.Cmd
	PID    int
	Stdin  io.WriteCloser
	Output *Buffer       // both streams
	Done   chan struct{} // closed when it has ended
	buried atomic.Bool   // nothing of it lives any more: its PID may be another's
}

// StartAs starts a program as a user. It dies with the test at the latest.
func (h *Host) StartAs(uid uint32, name string, args ...string) *Process {
	h.T.Helper()
	return h.StartCommandAs(uid, exec.Command(name, args...))
}

// Idle starts a process that does nothing until its standard input ends.
func (h *Host) Idle(uid uint32) *Process {
	h.T.Helper()
	return h.StartAs(uid, "cat")
}

// StartCommandAs starts a command as a user, in /. It dies with the test at the latest.
func (h *Host) StartCommandAs(uid uint32, cmd *exec.Cmd) *Process {
	h.T.Helper()
	p := &Process{T: h.T, Cmd: cmd, Output: new(Buffer), Done: make(chan struct{})}
	cmd.Dir = "/"
	if cmd.Env == nil {
		cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	}
	if options, set := os.LookupEnv("GORACE"); set {
		cmd.Env = append(cmd.Env, "GORACE="+options)
	}
	cmd.Stdout, cmd.Stderr = p.Output, p.Output
	cmd.WaitDelay = time.Second // children may hold the output open
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Pdeathsig:  syscall.SIGKILL,
		Setpgid:    true,
		Credential: &syscall.Credential{Uid: uid, Gid: uid, NoSetGroups: uid == 0},
	}
	var err error
	if p.Stdin, err = cmd.StdinPipe(); err != nil {
		h.T.Fatal(err)
	}
	if err := h.Start(cmd); err != nil {
		h.T.Fatalf("start %v: %v", cmd.Args, err)
	}
	p.PID = cmd.Process.Pid
	go func() {
		defer close(p.Done)
		cmd.Wait()
	}()
	h.T.Cleanup(func() {
		if !p.buried.Load() {
			syscall.Kill(-p.PID, syscall.SIGKILL) // its children too
		}
		<-p.Done
		noRaces(h.T, cmd, p.Output.String())
	})
	return p
}

// Ended reports whether the process has ended.
func (p *Process) Ended() bool {
	select {
	case <-p.Done:
		return true
	default:
		return false
	}
}

// Wait waits for the end of the process and returns its exit status.
func (p *Process) Wait() int {
	p.T.Helper()
	select {
	case <-p.Done:
	case <-time.After(Patience):
		p.T.Fatalf("%v has not ended after %v\n%s", p.Cmd.Args, Patience, p.Output)
	}
	return code(p.Cmd)
}

// Signal sends a signal to the process.
func (p *Process) Signal(s syscall.Signal) {
	p.T.Helper()
	if err := syscall.Kill(p.PID, s); err != nil {
		p.T.Fatalf("send %v to %v: %v", s, p.Cmd.Args, err)
	}
}

// Say writes a line to the process.
func (p *Process) Say(line string) {
	p.T.Helper()
	if _, err := io.WriteString(p.Stdin, line+"\n"); err != nil {
		p.T.Fatalf("write to %v: %v\n%s", p.Cmd.Args, err, p.Output)
	}
}

// Said waits until a process has printed a text so many times.
func (p *Process) Said(text string, times int) {
	p.T.Helper()
	Eventually(p.T, fmt.Sprintf("%.99q says %q", p.Cmd.Args, text), func() error {
		if n := strings.Count(p.Output.String(), text); n < times {
			return fmt.Errorf("%d times, want %d: it said %q", n, times, p.Output)
		}
		return nil
	})
}

// Children lists the children of a process, those of all its threads.
func Children(pid int) (pids []int) {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, file := range tasks {
		text, _ := os.ReadFile(file)
		for _, field := range strings.Fields(string(text)) {
			child, _ := strconv.Atoi(field)
			pids = append(pids, child)
		}
	}
	return pids
}

// A Buffer is a [bytes.Buffer] for several goroutines.
type Buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write appends to the buffer.
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// String is all that was written until now.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
