package harness

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A Result is how a command has ended.
type Result struct {
	Code        int
	Out, Errors string
}

// Culprit runs culprit on the host.
func (h *Host) Culprit(args ...string) Result {
	h.T.Helper()
	return h.Command(exec.Command(Programs.Culprit, args...))
}

// Command runs a command on the host and returns how it ended, well or not.
func (h *Host) Command(cmd *exec.Cmd) Result {
	h.T.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	// No command waits for anything: after this long it hangs.
	timer := time.AfterFunc(Patience, func() { cmd.Process.Kill() })
	defer timer.Stop()
	if err := h.Start(cmd); err != nil {
		h.T.Fatalf("%v: %v", cmd.Args, err)
	}
	err := cmd.Wait()
	if err != nil && !errors.As(err, new(*exec.ExitError)) {
		h.T.Fatalf("%v: %v", cmd.Args, err)
	}
	noRaces(h.T, cmd, errs.String())
	return Result{code(cmd), out.String(), errs.String()}
}

// Must fails the test if the command did not end with 0.
func (r Result) Must(t testing.TB) string {
	t.Helper()
	if r.Code != 0 {
		t.Fatalf("exit status %d, want 0\n%s%s", r.Code, r.Out, r.Errors)
	}
	return r.Out
}

// Fails fails the test if the command did not end as it should, with all of the
// given texts on its standard error.
func (r Result) Fails(t testing.TB, code int, says ...string) {
	t.Helper()
	var wrong []string
	if r.Code != code {
		wrong = append(wrong, fmt.Sprintf("exit status %d, want %d", r.Code, code))
	}
	for _, s := range says {
		if !strings.Contains(r.Errors, s) {
			wrong = append(wrong, fmt.Sprintf("the message does not say %q", s))
		}
	}
	if wrong != nil {
		t.Errorf("%s; it said:\n%s%s", strings.Join(wrong, "; "), r.Out, r.Errors)
	}
}

// code is the exit status as shells count it, 128+n for signal n.
func code(cmd *exec.Cmd) int {
	if ws := cmd.ProcessState.Sys().(syscall.WaitStatus); ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return cmd.ProcessState.ExitCode()
}

// noRaces fails the test if a culprit that was built with the race detector (make
// race) found one. Its gate writes to the standard error of the daemon, too.
func noRaces(t testing.TB, cmd *exec.Cmd, output string) {
	t.Helper()
	if strings.Contains(output, "WARNING: DATA RACE") {
		t.Errorf("%v has a data race:\n%s", cmd.Args, output)
	}
}

// As makes a command another user's.
func As(uid uint32, cmd *exec.Cmd) *exec.Cmd {
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	return cmd
}
