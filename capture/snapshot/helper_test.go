package snapshot

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"culprit/internal/event"
	"culprit/internal/proc"
	"culprit/internal/testkit"
)

// memory is a Store.
type memory struct {
	mu     sync.Mutex
	docs   []event.Snapshot
	copies map[string][]byte
}

func newMemory() *memory { return &memory{copies: map[string][]byte{}} }

func (m *memory) Snapshot(s event.Snapshot) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.docs = append(m.docs, s)
}

func (m *memory) Executable(sum string) (event.File, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.copies[sum]
	if !ok {
		return event.File{}, false
	}
	return event.File{Path: "/kept/" + sum, Size: int64(len(m.copies[sum]))}, true
}

func (m *memory) KeepExecutable(content io.Reader, _ int64) (string, event.File, *Unkept) {
	b, err := io.ReadAll(content)
	if err != nil {
		return "", event.File{}, &Unkept{Code: event.IncompleteFailed, Detail: err.Error()}
	}
	sum := digest(b)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.copies[sum] = b
	return sum, event.File{Path: "/kept/" + sum, Size: int64(len(b))}, nil
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// plainly starts programs as they are, in a process group of their own.
type plainly struct{}

func (plainly) Start(cmd *exec.Cmd) (io.Closer, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return group(cmd.Process.Pid), nil
}

type group int

func (g group) Close() error { return unix.Kill(-int(g), unix.SIGKILL) }

// taker runs a Taker until the test ends.
func taker(t testing.TB, stack string) (*Taker, *memory) {
	t.Helper()
	m := newMemory()
	k := New(Tools{FS: proc.Default, Users: new(proc.Users), Stack: stack, Run: t.TempDir(), Starter: plainly{}, Store: m})
	ctx, stop := context.WithCancel(t.Context())
	var run sync.WaitGroup
	run.Go(func() { k.Run(ctx) })
	t.Cleanup(func() { stop(); run.Wait() })
	return k, m
}

// stopped starts a program, waits until it sleeps, and stops it. It is killed when the test ends.
func stopped(t testing.TB, cmd *exec.Cmd) proc.ID {
	t.Helper()
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	cmd.SysProcAttr.Pdeathsig = 0 // the thread that starts it may end first
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	pid := cmd.Process.Pid
	// The programs of these tests sleep in nanosleep, poll or pause when they are ready.
	wait(t, "it sleeps", func() bool {
		text, _ := os.ReadFile(filepath.Join("/proc", itoa(pid), "syscall"))
		number, _, _ := strings.Cut(string(text), " ")
		switch number {
		case itoa(unix.SYS_NANOSLEEP), itoa(unix.SYS_CLOCK_NANOSLEEP), itoa(unix.SYS_PAUSE), itoa(unix.SYS_PPOLL):
			return true
		}
		return false
	})
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	var st proc.Stat
	wait(t, "it stops", func() (is bool) {
		st, _ = proc.Default.Stat(pid)
		return st.State == 'T'
	})
	return st.ID
}

func wait(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

// final waits for the last document of a snapshot of a process.
func (m *memory) final(t *testing.T, id proc.ID) (s event.Snapshot) {
	t.Helper()
	wait(t, "the snapshot is recorded", func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, s = range m.docs {
			if s.Final() && s.Process.EntityID == id.String() {
				return true
			}
		}
		return false
	})
	return s
}

// take takes a snapshot, and checks that the process stands as before, and can be traced.
func take(t *testing.T, k *Taker, m *memory, id proc.ID) event.Snapshot {
	t.Helper()
	return taken(t, k, m, id, 10*time.Second)
}

func taken(t *testing.T, k *Taker, m *memory, id proc.ID, limit time.Duration) event.Snapshot {
	t.Helper()
	s := k.Take(Request{ID: id, Limit: limit})
	standsStill(t, id)
	if s == nil {
		t.Fatal("no snapshot")
	}
	s.Record(true)
	return m.final(t, id)
}

// standsStill checks that the process stands still and has no tracer. Whom the kernel has just woken because its tracer was killed is
// runnable until a processor is free for it to stop again: on a busy machine for longer than [Taker.settle] waits.
func standsStill(t *testing.T, id proc.ID) {
	t.Helper()
	wait(t, "the process stands still", func() bool {
		st, err := proc.Default.Stat(id.PID)
		if err != nil || st.ID != id {
			t.Fatalf("afterwards the process is %s, %v", st.ID, err)
		}
		return st.State == 'T'
	})
	if status, err := proc.Default.Status(id.PID); err != nil || status.TracerPID != 0 {
		t.Errorf("afterwards it is traced by %d, %v", status.TracerPID, err)
	}
}

func itoa(n int) string { return strconv.Itoa(n) }

// compiled compiles a C program, and skips the test where nobody can.
func compiled(t *testing.T, source string, args ...string) string {
	t.Helper()
	testkit.Root(t)
	cc, err := exec.LookPath("cc")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("there is no C compiler: scripts/deps.sh test")
		}
		t.Skip("there is no C compiler")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.c"), []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "program")
	args = append([]string{"-g", "-O0", "-o", program, filepath.Join(dir, "a.c")}, args...)
	if out, err := exec.CommandContext(t.Context(), cc, args...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return program
}

// missing returns the parts that are incomplete, as text.
func missing(s event.Snapshot) string {
	var parts []string
	for _, i := range s.Culprit.Incomplete {
		parts = append(parts, string(i.Part)+":"+string(i.Reason.Code)+":"+i.Reason.Detail)
	}
	return strings.Join(parts, " ")
}
