package capture

import (
	"context"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"culprit/capture/snapshot"
	"culprit/internal/config"
	"culprit/internal/event"
	"culprit/internal/proc"
	"culprit/internal/strace"
	"culprit/internal/testkit"
)

// memory is a Recorder that keeps everything, the trace files in a directory.
type memory struct {
	dir       string
	mu        sync.Mutex
	hits      []event.Hit
	captures  map[string]event.Capture
	traces    map[string]event.Trace
	programs  []event.Program
	snapshots []event.Snapshot
	noFiles   bool
}

func (m *memory) Hit(h *event.Hit) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hits = append(m.hits, *h)
}

func (m *memory) Capture(c event.Capture) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.captures[c.Event.ID] = c
}

func (m *memory) Program(p event.Program) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.programs = append(m.programs, p)
}

func (m *memory) Trace(t event.Trace) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.traces[t.Event.ID] = t
}

func (m *memory) Snapshot(s event.Snapshot) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.snapshots = append(m.snapshots, s)
}

func (m *memory) Executable(string) (event.File, bool) { return event.File{}, false }

func (m *memory) KeepExecutable(io.Reader, int64) (string, event.File, *snapshot.Unkept) {
	return "", event.File{}, &snapshot.Unkept{Code: event.IncompleteOff}
}

func (m *memory) Room() error { return nil }

func (m *memory) Create(t *event.Trace) (io.WriteCloser, error) {
	if m.noFiles {
		return nil, fs.ErrPermission
	}
	t.File.Path = filepath.Join(m.dir, t.Event.ID)
	return os.Create(t.File.Path)
}

// eventually waits until the recorder knows what is asked for.
func (m *memory) eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(testkit.Patience)
	for {
		m.mu.Lock()
		done := ok()
		m.mu.Unlock()
		if done {
			return
		}
		if time.Now().After(deadline) {
			m.mu.Lock()
			defer m.mu.Unlock()
			t.Fatalf("not within 10 s: %s\nhits %+v\ncaptures %+v\ntraces %+v", what, m.hits, m.captures, m.traces)
		}
		time.Sleep(time.Millisecond)
	}
}

func (m *memory) only() (c event.Capture) {
	for _, c = range m.captures {
	}
	return c
}

// control runs a controller with a configuration until the test ends.
func control(t *testing.T, yaml string, change func(*Controller, *memory)) (*Controller, *memory) {
	t.Helper()
	testkit.Root(t)
	c, err := config.Parse("test", []byte("rules: [{name: a, string: b}]\n"+yaml))
	if err != nil {
		t.Fatal(err)
	}
	program, err := strace.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	m := &memory{dir: t.TempDir(), captures: map[string]event.Capture{}, traces: map[string]event.Trace{}}
	k := New(c, program, m, nil, nil, slog.New(slog.DiscardHandler))
	if change != nil {
		change(k, m)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		k.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		select {
		case <-done:
		case <-time.After(testkit.Patience):
			t.Error("the controller does not end")
		}
	})
	return k, m
}

// sleeper starts a shell of a UID of the test's own, which lives until the test
// ends. It is init's child, not ours: our own children are never traced.
func sleeper(t *testing.T, uid uint32, script string) (pid int) {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", `setsid setpriv --reuid "$2" --clear-groups /bin/sh -c "$1" > /dev/null 2>&1 & echo $!`,
		"sh", script, strconv.Itoa(int(uid)))
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if pid, err = strconv.Atoi(strings.TrimSpace(string(out))); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Kill(-pid, syscall.SIGKILL) })
	return pid
}

// hitOf makes a hit of a user whose sender is a live process.
func hitOf(t *testing.T, uid string, pid int) *event.Hit {
	t.Helper()
	h := &event.Hit{Timestamp: time.Now(), Event: event.Meta{ID: event.NewID()}, Rule: event.Rule{Name: "a"}, User: &event.User{ID: uid}}
	h.Culprit.Origin.Grade = event.GradeCandidates
	if pid != 0 {
		p, err := proc.Default.Describe(pid, new(proc.Users))
		if err != nil {
			t.Fatal(err)
		}
		h.Process = &p
		h.Culprit.Origin.Grade = event.GradeSocket
	}
	return h
}

// waitForSleep waits until the sleepers have become sleep.
func waitForSleep(t *testing.T, m *memory, uid uint32) {
	t.Helper()
	m.eventually(t, "two sleep", func() bool {
		n := 0
		pids, _ := proc.Default.PIDs()
		for _, pid := range pids {
			if st, err := proc.Default.Status(pid); err == nil && st.Of(uid) && strings.HasPrefix(proc.Default.CommandLine(pid), "sleep") {
				n++
			}
		}
		return n == 2
	})
}
