package stopped

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"culprit/internal/proc"
	"culprit/internal/testkit"
)

// If the keeper is killed too, the next one resumes its processes, by the list. It leaves the
// list of one that lives alone.
func TestSweep(t *testing.T) {
	t.Parallel()
	testkit.Root(t)
	dir := filepath.Join(t.TempDir(), "run")
	sleeper := func() proc.ID {
		cmd := exec.Command("sleep", "1000")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			cmd.Process.Kill()
			cmd.Wait()
		})
		cmd.Process.Signal(syscall.SIGSTOP)
		st, err := proc.Default.Stat(cmd.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "it is stopped", func() error { return hasState(st.ID, 'T') })
		return st.ID
	}
	open := func() (l *List, name string) {
		t.Helper()
		l, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		// What comes next is another process, with a list of another name.
		name = filepath.Join(dir, fmt.Sprint("stopped-of-", time.Now().UnixNano()))
		if err := os.Rename(l.file.Name(), name); err != nil {
			t.Fatal(err)
		}
		return l, name
	}
	ours, others, of, theirs, since := sleeper(), sleeper(), sleeper(), sleeper(), sleeper()
	old := others
	old.Start-- // an earlier process with this PID
	killed, killedName := open()
	fmt.Fprintf(killed.file, "%v\nnonsense\n%v\n%v\n%v\ngone %v\n%v", old, ours, theirs, since, since, proc.ID{PID: 1 << 22, Start: 1})
	if err := unix.Kill(theirs.PID, unix.SIGSTOP); err != nil { // somebody else stops it, too
		t.Fatal(err)
	}
	alive, aliveName := open()
	defer alive.file.Close()
	if err := alive.Add(of); err != nil {
		t.Fatal(err)
	}
	killed.file.Close()

	next, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "it goes on", func() error { return hasState(ours, 'S') })
	for what, id := range map[string]proc.ID{"that somebody else stopped": others, "that somebody else stopped, too": theirs, "that had gone on, and somebody else has stopped since": since, "of a helper that lives": of} {
		if err := hasState(id, 'T'); err != nil {
			t.Errorf("a process %s: %v", what, err)
		}
	}
	if _, err := os.Stat(killedName); err == nil {
		t.Error("the list of the helper that was killed is still there")
	}
	if text, err := os.ReadFile(aliveName); err != nil || string(text) != of.String()+"\n" {
		t.Errorf("the list of the helper that lives is %q, %v", text, err)
	}
	if info, err := next.file.Stat(); err != nil || info.Size() != 0 || info.Mode().Perm() != 0o600 {
		t.Errorf("the new list is %v, %v", info, err)
	}
	next.Close()
	if left, _ := filepath.Glob(dir + "/*"); len(left) != 1 {
		t.Errorf("there are %v, want that of the helper that lives", left)
	}
}

// A list does not grow for ever.
func TestListIsBounded(t *testing.T) {
	t.Parallel()
	l, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for range 3*MaxListed + 5 {
		if err := l.Add(proc.ID{PID: 1 << 22, Start: 1}); err != nil {
			t.Fatal(err)
		}
		l.Clear()
	}
	if text, err := os.ReadFile(l.file.Name()); err != nil || strings.Count(string(text), "\n") != 5 {
		t.Errorf("it has %d lines, %v; want those since it was emptied", strings.Count(string(text), "\n"), err)
	}
}

func hasState(id proc.ID, state byte) error {
	st, err := proc.Default.Stat(id.PID)
	if err == nil && (st.ID != id || st.State != state) {
		err = fmt.Errorf("process %v is in state %c", st.ID, st.State)
	}
	return err
}

func eventually(t *testing.T, what string, try func() error) {
	t.Helper()
	testkit.Within(t, 15*time.Second, what, try)
}
