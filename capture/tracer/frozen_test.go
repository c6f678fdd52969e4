package tracer

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"culprit/capture/snapshot"
	"culprit/internal/event"
	"culprit/internal/proc"
	"culprit/internal/strace"
	"culprit/internal/testkit"
)

// files is where one trace is made, and where snapshots go.
type files struct {
	dir       string
	snapshots chan event.Snapshot
}

func (f files) Room() error { return nil }

func (f files) Create(t *event.Trace) (io.WriteCloser, error) {
	t.File.Path = filepath.Join(f.dir, "trace")
	return os.Create(t.File.Path)
}

func (f files) Snapshot(s event.Snapshot) {
	if s.Final() {
		f.snapshots <- s
	}
}
func (f files) Executable(string) (event.File, bool) { return event.File{}, false }
func (f files) KeepExecutable(io.Reader, int64) (string, event.File, *snapshot.Unkept) {
	return "", event.File{}, &snapshot.Unkept{Code: event.IncompleteOff}
}

// nobody traces anything.
type nobody struct{}

func (nobody) TracedBy(proc.Status) (*event.Untraced, bool) { return nil, false }

// told is what an Output was told.
type told struct {
	attached  chan Attachment
	described chan Description
	ended     chan Ending
}

func (o told) Attached(a Attachment)   { o.attached <- a }
func (o told) Described(d Description) { o.described <- d }
func (o told) Ended(e Ending)          { o.ended <- e }

// A process that is frozen has a snapshot from before strace: it names its trace, unless there is
// none. Then it goes on, traced from there.
func TestFrozen(t *testing.T) {
	t.Parallel()
	testkit.Root(t)
	program, err := strace.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, strace string
		traced       bool
		goesOn       string // when its user lets it go on
	}{
		{"traced", program.Path, true, ""},
		{"goes on", program.Path, true, "at once"},
		{"goes on late", program.Path, true, "as strace starts"},
		{"strace cannot be started", "/nonexistent/strace", false, ""},
		{"strace fails", "/bin/false", false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), "sleep", "1000")
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer cmd.Wait()
			defer cmd.Process.Kill()
			pid := cmd.Process.Pid
			state := func() byte {
				st, err := proc.Default.Stat(pid)
				if err != nil {
					t.Fatal(err)
				}
				return st.State
			}
			eventually(t, "it is sleep", func() bool {
				exe, _ := proc.Default.Executable(pid)
				return strings.HasSuffix(exe, "sleep") && state() == 'S'
			})
			unix.Kill(pid, unix.SIGSTOP)
			eventually(t, "it stands still", func() bool { return state() == 'T' })
			st, err := proc.Default.Stat(pid)
			if err != nil {
				t.Fatal(err)
			}

			switch c.goesOn {
			case "at once":
				unix.Kill(pid, unix.SIGCONT)
				eventually(t, "it goes on", func() bool { return state() == 'S' })
			case "as strace starts":
				c.strace = filepath.Join(t.TempDir(), "strace")
				script := fmt.Sprintf("#!/bin/sh\nkill -CONT %d\nexec %s \"$@\"\n", pid, program.Path)
				if err := os.WriteFile(c.strace, []byte(script), 0o700); err != nil {
					t.Fatal(err)
				}
			}

			ctx, stop := context.WithCancel(context.Background())
			var helpers sync.WaitGroup
			defer helpers.Wait()
			defer stop()
			spawner := NewSpawner()
			helpers.Go(func() { spawner.Run(ctx) })
			f := files{t.TempDir(), make(chan event.Snapshot, 10)}
			taker := snapshot.New(snapshot.Tools{
				FS: proc.Default, Users: new(proc.Users), Stack: snapshot.FindStack(), Run: t.TempDir(), Starter: spawner, Store: f,
			})
			helpers.Go(func() { taker.Run(ctx) })
			run := New(
				Tools{Strace: c.strace, Files: f, Spawner: spawner, Guard: nobody{}, FS: proc.Default, Users: new(proc.Users), Snapshots: taker},
				Job{
					ID: st.ID, TID: pid, Hit: &event.Hit{Event: event.Meta{ID: "H"}, Rule: event.Rule{Name: "a"}}, Bound: 1 << 20,
					Trace: event.Trace{
						Event: event.Meta{ID: "T"}, User: event.User{ID: "7"},
						Culprit: event.TraceDetail{Capture: event.Reference{ID: "C"}, Command: program.Command(strace.Options{Strings: 32}, pid)},
					},
					Stopped: true, StoppedFor: time.Hour,
					Frozen: &Frozen{Since: time.Now(), Until: time.Now().Add(30 * time.Second)},
				})
			out := told{make(chan Attachment, 1), make(chan Description, 1), make(chan Ending, 1)}
			helpers.Go(func() { run.Run(out) })
			if c.traced {
				<-out.attached
				if d := <-out.described; d.Ran != (c.goesOn != "") {
					t.Errorf("it ran: %t", d.Ran)
				}
				if status, err := proc.Default.Status(pid); err != nil || status.TracerPID == 0 {
					t.Errorf("it is traced by %d, %v", status.TracerPID, err)
				}
				unix.Kill(pid, unix.SIGCONT)
				eventually(t, "it goes on", func() bool { return state() == 'S' })
				run.Detach(event.Ended{Code: event.EndedStopped})
			}
			end := <-out.ended
			if c.traced != (end.Refused == nil) {
				t.Errorf("the end is %+v", end)
			}
			s := <-f.snapshots
			d := &s.Culprit
			if d.Hit == nil || d.Hit.ID != "H" || d.Capture.ID != "C" || s.Rule.Name != "a" || s.User.ID != "7" || s.Process.PID != pid || s.Process.Hash == nil {
				t.Errorf("the snapshot is %+v", s)
			}
			if c.traced != (d.Trace != nil && d.Trace.ID == "T") {
				t.Errorf("the snapshot has the trace %+v", d.Trace)
			}
			if has := snapshot.FindStack() != "" && c.goesOn != "at once"; has != (len(d.Stack) > 0) {
				t.Errorf("its stack is %v: %+v", d.Stack, d.Incomplete)
			}
			if !c.traced && state() != 'T' {
				t.Errorf("its state is %c: whoever stopped it lets it go", state())
			}
		})
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}
