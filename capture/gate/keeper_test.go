package gate

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"culprit/internal/proc"
	"culprit/internal/testkit"
)

// recorder is an Output that keeps everything.
type recorder struct {
	held   chan Held
	gone   chan time.Duration
	down   chan error
	marked chan string
	counts chan Counts
}

func (o recorder) Held(h Held)           { o.held <- h }
func (o recorder) Gone(d time.Duration)  { o.gone <- d }
func (o recorder) Down(err error)        { o.down <- err }
func (o recorder) Marked(trouble string) { o.marked <- trouble }
func (o recorder) Counted(c Counts) {
	select {
	case o.counts <- c:
	default:
	}
}

// A kept gate is run by a keeper. The keeper's Run must return soon when the test ends.
type kept struct {
	*Keeper
	recorder
	t   *testing.T
	pid *atomic.Int64 // of the latest gate
}

func keep(t *testing.T, deadline time.Duration) *kept {
	t.Helper()
	return keepGate(t, Config{Deadline: deadline})
}

func keepGate(t *testing.T, c Config) *kept {
	t.Helper()
	testkit.Root(t)
	_, loader := dynamic(t)
	k := &kept{
		t: t, pid: new(atomic.Int64),
		recorder: recorder{make(chan Held, 1000), make(chan time.Duration, 1000), make(chan error, 100), make(chan string, 100), make(chan Counts, 1)},
	}
	c.Exempt = []string{loader}
	k.Keeper = NewKeeper(c)
	k.Keeper.start = func(cmd *exec.Cmd) error {
		if err := cmd.Start(); err != nil {
			return err
		}
		k.pid.Store(int64(cmd.Process.Pid))
		return nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		k.Run(ctx, k.recorder)
	}()
	t.Cleanup(func() {
		cancel()
		select {
		case <-done:
		case <-time.After(soon):
			t.Errorf("the keeper has not ended within %v", soon)
			syscall.Kill(int(k.pid.Load()), syscall.SIGKILL)
		}
	})
	return k
}

func (k *kept) signal(s syscall.Signal) {
	k.t.Helper()
	if err := syscall.Kill(int(k.pid.Load()), s); err != nil {
		k.t.Fatal(err)
	}
}

// holds runs a program, which must be held, and must go on when the keeper says so.
func (k *kept) holds(r *runner) {
	k.t.Helper()
	r.run("/bin/true")
	h := await(k.t, k.held, "the program is held")
	if h.UID != r.uid {
		k.t.Errorf("held: %+v, want UID %d", h, r.uid)
	}
	k.Go(h.Number)
	r.end()
	if d := await(k.t, k.gone, "the end of the hold is told"); d <= 0 || d > k.limit {
		k.t.Errorf("it was held for %v, of %v at most", d, k.limit)
	}
}

func TestKeeper(t *testing.T) {
	a, b := newRunner(t, nil, newUID()), newRunner(t, nil, newUID())
	k := keep(t, forever)
	k.Watch([]uint32{a.uid})
	await(t, k.marked, "the file systems are marked")
	k.holds(a)
	b.run("/bin/true")
	b.end()
	k.Watch([]uint32{b.uid, a.uid}) // the last counts
	k.Watch([]uint32{b.uid})
	eventually(t, "the other is held instead", func() error {
		a.run("/bin/true")
		for {
			select {
			case h := <-k.held:
				k.Go(h.Number)
			case <-a.result:
				b.run("/bin/true")
				k.Go(await(t, k.held, "the other's program is held").Number)
				b.end()
				return nil
			}
		}
	})
	k.Go(12345) // belongs to nobody
	await(t, k.counts, "the counts are told")
	k.Watch(nil)
	eventually(t, "the marks are gone", func() error {
		if marks, _ := testkit.FanotifyMarks(t, int(k.pid.Load())); marks > 0 {
			return io.ErrNoProgress
		}
		return nil
	})
	select {
	case err := <-k.down:
		t.Errorf("the gate was down: %v", err)
	default:
	}
}

// A gate that ends, or that hangs while it watches, is replaced by one that watches the same.
func TestKeeperRestarts(t *testing.T) {
	for name, s := range map[string]syscall.Signal{"killed": syscall.SIGKILL, "stopped": syscall.SIGSTOP} {
		t.Run(name, func(t *testing.T) {
			r := newRunner(t, nil, newUID())
			k := keep(t, time.Second)
			k.Watch([]uint32{r.uid})
			await(t, k.marked, "the file systems are marked")
			k.holds(r)
			old := k.pid.Load()
			k.signal(s)
			if err := await(t, k.down, "the keeper tells that the gate failed"); err == nil {
				t.Error("it failed without an error")
			}
			await(t, k.marked, "the file systems are marked again")
			if k.pid.Load() == old {
				t.Errorf("the gate is still process %d", old)
			}
			k.holds(r)
		})
	}
}

// A gate that is stopped while it watches nothing, so that its watchdog rests, does not set
// marks when it should. The keeper must notice its silence.
func TestKeeperNoticesSilence(t *testing.T) {
	r := newRunner(t, nil, newUID())
	k := keep(t, 100*time.Millisecond)
	eventually(t, "the gate runs", func() error {
		if k.pid.Load() == 0 {
			return io.ErrNoProgress
		}
		return nil
	})
	k.signal(syscall.SIGSTOP)
	k.Watch([]uint32{r.uid})
	await(t, k.down, "the keeper tells that the gate failed")
	await(t, k.marked, "the file systems are marked")
	k.holds(r)
}

// If the gate cannot be started the keeper tries again and again, not too fast, and ends when
// it should.
func TestKeeperCannotStart(t *testing.T) {
	t.Parallel()
	out := recorder{down: make(chan error, 100)}
	k := NewKeeper(Config{Deadline: time.Second})
	k.start = func(*exec.Cmd) error { return exec.ErrNotFound }
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		k.Run(ctx, out)
	}()
	start := time.Now()
	await(t, out.down, "the keeper tells that it could not start the gate")
	await(t, out.down, "and again")
	if took := time.Since(start); took < 500*time.Millisecond {
		t.Errorf("it tried again after %v", took)
	}
	for i := range 5000 { // nobody takes them, and Watch does not wait
		k.Watch([]uint32{uint32(i)})
		k.Go(uint64(i))
	}
	cancel()
	await(t, done, "the keeper ends")
}

// The gate gets all arguments that it needs.
func TestKeeperArguments(t *testing.T) {
	t.Parallel()
	k := NewKeeper(Config{Deadline: 1500 * time.Millisecond, Stop: true, Exempt: []string{"/a b", "/c"}})
	if want := []string{"culprit", "gate", "--deadline", "1.5s", "--stop", "--exempt", "/a b", "--exempt", "/c"}; !slices.Equal(k.args, want) {
		t.Errorf("got %q\nwant %q", k.args, want)
	}
}

// A process stopped by SIGSTOP goes on even if the gate is killed: the keeper resumes it.
func TestKeeperResumes(t *testing.T) {
	r := newRunner(t, nil, newUID())
	k := keepGate(t, Config{Deadline: forever, Stop: true})
	k.Watch([]uint32{r.uid})
	await(t, k.marked, "the file systems are marked")
	r.run("/bin/true")
	h := await(t, k.held, "the program is stopped")
	eventually(t, "the program is stopped", func() error { return hasState(h.ID, 'T') })
	k.signal(syscall.SIGKILL)
	r.end()
}

// If the keeper is killed too, the next gate resumes it, by the list. It leaves the list of a
// live gate alone.
func TestSweep(t *testing.T) {
	testkit.Root(t)
	dir := filepath.Join(t.TempDir(), "run")
	stopped := func() proc.ID {
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
	open := func() (l *stoppedList, name string) {
		t.Helper()
		l, err := openStopped(dir)
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
	ours, others, of := stopped(), stopped(), stopped()
	old := others
	old.Start-- // an earlier process with this PID
	killed, killedName := open()
	fmt.Fprintf(killed.file, "%v\nnonsense\n%v\n%v", old, ours, proc.ID{PID: 1 << 22, Start: 1})
	alive, aliveName := open()
	defer alive.file.Close()
	if err := alive.add(of); err != nil {
		t.Fatal(err)
	}
	killed.file.Close()

	next, err := openStopped(dir)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "it goes on", func() error { return hasState(ours, 'S') })
	for what, id := range map[string]proc.ID{"that somebody else stopped": others, "of a gate that lives": of} {
		if err := hasState(id, 'T'); err != nil {
			t.Errorf("a process %s: %v", what, err)
		}
	}
	if _, err := os.Stat(killedName); err == nil {
		t.Error("the list of the gate that was killed is still there")
	}
	if text, err := os.ReadFile(aliveName); err != nil || string(text) != of.String()+"\n" {
		t.Errorf("the list of the gate that lives is %q, %v", text, err)
	}
	if info, err := next.file.Stat(); err != nil || info.Size() != 0 || info.Mode().Perm() != 0o600 {
		t.Errorf("the new list is %v, %v", info, err)
	}
	next.close()
	if left, _ := filepath.Glob(dir + "/*"); len(left) != 1 {
		t.Errorf("there are %v, want that of the gate that lives", left)
	}
}

// A list does not grow for ever.
func TestListIsBounded(t *testing.T) {
	t.Parallel()
	l, err := openStopped(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	for range 3*maxListed + 5 {
		if err := l.add(proc.ID{PID: 1 << 22, Start: 1}); err != nil {
			t.Fatal(err)
		}
		l.clear()
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
