package gate

import (
	"bufio"
	"io"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"culprit/internal/testkit"
)

// A runner is a shell of some user that runs programs. Go's fork would wait for the gate, and
// the test is the one that tells the gate to let go.
type runner struct {
	t      *testing.T
	uid    uint32
	pid    int
	stdin  io.WriteCloser
	result chan result
}

// result is how and when a program ended.
type result struct {
	said string
	at   time.Time
}

// newRunner starts a shell. Call it before its UID is watched.
func newRunner(t *testing.T, start starter, uid uint32) *runner {
	t.Helper()
	testkit.Root(t)
	r := &runner{t: t, uid: uid, result: make(chan result, 100)}
	cmd := exec.Command("/bin/sh", "-c", `while read -r line; do eval "$line"; echo "ended $?"; done`)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	var err error
	if r.stdin, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if start == nil {
		start = (*exec.Cmd).Start
	}
	if err := start(cmd); err != nil {
		t.Fatal(err)
	}
	r.pid = cmd.Process.Pid
	t.Cleanup(func() {
		syscall.Kill(-r.pid, syscall.SIGKILL) // including what it runs
		cmd.Wait()
	})
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			r.result <- result{lines.Text(), time.Now()}
		}
	}()
	return r
}

// run starts a command in the shell and returns the time, without waiting.
func (r *runner) run(command string) time.Time {
	r.t.Helper()
	start := time.Now()
	if _, err := io.WriteString(r.stdin, command+"\n"); err != nil {
		r.t.Fatal(err)
	}
	return start
}

// end waits for the end of the command and returns its time.
func (r *runner) end() time.Time {
	r.t.Helper()
	got := await(r.t, r.result, "the program ends")
	if got.said != "ended 0" {
		r.t.Errorf("the runner said %q, want that the program ended with 0", got.said)
	}
	return got.at
}

// waits checks for a moment that the command does not end.
func (r *runner) waits() {
	r.t.Helper()
	select {
	case got := <-r.result:
		r.t.Fatalf("the program went on, want it held: %q", got.said)
	case <-time.After(200 * time.Millisecond):
	}
}
