package finder

import (
	"context"
	"log/slog"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"culprit/internal/connector"
	"culprit/internal/event"
	"culprit/internal/proc"
	"culprit/internal/testkit"
)

// permissive is a guard that forbids nothing.
type permissive struct{}

func (permissive) ForbidsUser(uint32) bool                                { return false }
func (permissive) Forbids(proc.Stat, proc.Status, string) *event.Untraced { return nil }
func (permissive) TracedBy(proc.Status) (who *event.Untraced, ours bool)  { return nil, false }

// onHost is Within on a machine without containers.
func onHost(int) []string { return nil }

// notes is an Output that passes on what a test waits for.
type notes struct {
	found   chan Process
	exited  chan Exit
	scanned chan Scan
}

func (n notes) Found(p Process) { n.found <- p }
func (n notes) Exited(e Exit)   { n.exited <- e }
func (n notes) Unseen(Owner)    {}
func (n notes) Forbidden(int)   {}
func (n notes) Scanned(s Scan)  { n.scanned <- s }

// next returns the next message that is wanted, and drops those before it.
func next[T any](t *testing.T, what string, from <-chan T, wanted func(T) bool) T {
	t.Helper()
	timeout := time.After(30 * time.Second)
	for {
		select {
		case m := <-from:
			if wanted(m) {
				return m
			}
		case <-timeout:
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

// A process of a watched user is found whether it was there before or comes later, and
// its end is told: by the proc connector, and without one by polling.
func TestFinder(t *testing.T) {
	testkit.Root(t)
	for _, tt := range []struct {
		name string
		uid  uint32
		poll bool
		late string // how the later one is found
	}{
		{"connector", 64331, false, event.FoundExec},
		{"polling", 64332, true, event.FoundPoll},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out := notes{make(chan Process, 1000), make(chan Exit, 1000), make(chan Scan, 1000)}
			f := New(proc.Default, func() Guard { return permissive{} }, onHost, slog.New(slog.DiscardHandler), out)
			if tt.poll {
				f.Poll()
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() {
				defer close(done)
				f.Run(ctx)
			}()
			defer func() { cancel(); <-done }()

			early := sleep(t, tt.uid)
			for proc.Default.CommandLine(early) != "sleep 60" {
				time.Sleep(time.Millisecond)
			}
			f.Watch(map[Owner]Target{{UID: tt.uid}: {}})
			p := next(t, "the process that was there", out.found, func(p Process) bool { return p.ID.PID == early })
			if p.UID != tt.uid || p.How != event.FoundScan || p.Program.CommandLine != "sleep 60" || p.TracerPID != 0 || p.Forbidden != nil {
				t.Errorf("found %+v", p)
			}
			next(t, "the end of the scan", out.scanned, func(s Scan) bool { return s.Alive[early] })
			late := sleep(t, tt.uid)
			next(t, "the process that comes", out.found, func(p Process) bool { return p.ID.PID == late && p.How == tt.late })
			syscall.Kill(late, syscall.SIGKILL)
			if tt.poll {
				next(t, "its absence", out.scanned, func(s Scan) bool { return !s.Alive[late] })
			} else if e := next(t, "its end", out.exited, func(e Exit) bool { return e.PID == late }); e.Code != 137 {
				t.Errorf("its exit status is %d", e.Code)
			}
		})
	}
}

// A process of a watched user is found only in the container that is watched: by a scan, when it starts, and
// when it becomes the user. A container covers those inside it.
func TestContainers(t *testing.T) {
	testkit.Root(t)
	const uid, other = 64333, 64334
	var mu sync.Mutex
	in := map[int][]string{}
	place := func(pid int, ids ...string) int {
		mu.Lock()
		defer mu.Unlock()
		in[pid] = ids
		return pid
	}
	within := func(pid int) []string {
		mu.Lock()
		defer mu.Unlock()
		return in[pid]
	}
	out := notes{make(chan Process, 1000), make(chan Exit, 1000), make(chan Scan, 1000)}
	f := New(proc.Default, func() Guard { return permissive{} }, within, slog.New(slog.DiscardHandler), out)
	pids := map[string]int{
		"in a": place(sleep(t, uid), "a"), "inside a": place(sleep(t, uid), "a", "c"), "in b": place(sleep(t, uid), "b"),
		"on the host": sleep(t, uid), "other in a": place(sleep(t, other), "a"), "other in b": place(sleep(t, other), "b"),
	}
	for _, pid := range pids {
		for proc.Default.CommandLine(pid) != "sleep 60" {
			time.Sleep(time.Millisecond)
		}
	}
	a, host, all, everywhere := Owner{uid, "a"}, Owner{uid, Host}, Owner{AnyUser, "b"}, Owner{other, Anywhere}
	f.targets = map[Owner]Target{a: {}, host: {}, all: {}, everywhere: {}}
	f.scan(anybody, false)
	got := map[string][]Owner{}
	for len(out.found) > 0 {
		p := <-out.found
		for name, pid := range pids {
			if p.ID.PID == pid {
				got[name] = append(got[name], p.Owner)
			}
		}
	}
	for name, want := range map[string][]Owner{
		"in a": {a}, "inside a": {a}, "in b": {all}, "on the host": {host}, "other in a": {everywhere}, "other in b": {all, everywhere},
	} {
		if len(got[name]) != len(want) || slices.ContainsFunc(want, func(o Owner) bool { return !slices.Contains(got[name], o) }) {
			t.Errorf("%s: found for %v, want %v", name, got[name], want)
		}
	}

	f.targets, f.known = map[Owner]Target{a: {}}, map[int]Owner{}
	for name, want := range map[string]bool{"in a": true, "in b": false, "on the host": false, "other in a": false} {
		pid := uint32(pids[name])
		for _, e := range []connector.Event{{Kind: connector.Exec, PID: int(pid)}, {Kind: connector.UID, PID: int(pid), RUID: uid, EUID: uid}} {
			f.event(e)
			if found := len(out.found) > 0; found != want {
				t.Errorf("%s: found by %+v: %v", name, e, found)
			}
			for len(out.found) > 0 {
				<-out.found
			}
			if _, known := f.known[int(pid)]; known != want {
				t.Errorf("%s: known after %+v: %v", name, e, known)
			}
		}
	}
}

// sleep starts a program of a user, which ends with the test.
func sleep(t *testing.T, uid uint32) (pid int) {
	t.Helper()
	cmd := exec.Command("setpriv", "--reuid", strconv.Itoa(int(uid)), "--clear-groups", "sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	go cmd.Wait()
	return cmd.Process.Pid
}

// unseens counts processes that were gone.
type unseens struct {
	notes
	n *int
}

func (u unseens) Unseen(Owner) { *u.n++ }

// A process that becomes a watched user and is gone before anybody could look is counted, once.
func TestGoneWhenItBecame(t *testing.T) {
	t.Parallel()
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	const uid = 64341
	n := 0
	f := New(proc.Default, func() Guard { return permissive{} }, onHost, slog.New(slog.DiscardHandler), unseens{notes{}, &n})
	f.targets = map[Owner]Target{{UID: uid}: {}}
	for _, becomes := range []uint32{uid + 1, uid, uid} {
		f.event(connector.Event{Kind: connector.UID, PID: gone.Process.Pid, RUID: becomes, EUID: becomes})
	}
	if n != 1 {
		t.Errorf("%d were counted, want 1", n)
	}
}
