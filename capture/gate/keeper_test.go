package gate

import (
	"context"
	"fmt"
	"io"
	"net"
	"os/exec"
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
			// On a busy machine a gate may have been silent before it is killed.
			why := await(t, k.down, "the keeper tells that the gate failed")
			if why == nil || !strings.Contains(why.Error(), "very busy") && (s != syscall.SIGKILL || !strings.Contains(why.Error(), "killed by somebody")) {
				t.Errorf("%s, the gate failed because: %v", name, why)
			}
			await(t, k.marked, "the file systems are marked again")
			if k.pid.Load() == old {
				t.Errorf("the gate is still process %d", old)
			}
			k.holds(r)
		})
	}
}

// The keeper is told what ended a gate, as far as that can be known.
func TestWhyEnded(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for _, c := range []struct {
		name, command string
		pinged        time.Time
		want          string
	}{
		{"by its watchdog", "kill -9 $$", now.Add(-700 * time.Millisecond), "the gate did nothing for 700ms, so its watchdog killed it"},
		{"by somebody, while it answers", "kill -9 $$", now.Add(-50 * time.Millisecond), "the gate was killed by somebody"},
		{"by somebody, while it watches nobody", "kill -9 $$", time.Time{}, "the gate was killed by somebody"},
		{"by itself", "exit 1", now.Add(-700 * time.Millisecond), "the gate has ended: exit status 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command("sh", "-c", c.command)
			_ = cmd.Run()
			s := &session{keeper: &Keeper{limit: 500 * time.Millisecond}, cmd: cmd, pingSent: c.pinged}
			if !c.pinged.IsZero() {
				s.owed = 1
			}
			if err := s.why(now); !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("told %q, want %q", err, c.want)
			}
		})
	}
}

// A keeper that could not run for a while does not take that for the silence of the gate.
func TestKeeperWasAway(t *testing.T) {
	t.Parallel()
	ours, theirs := net.Pipe()
	go io.Copy(io.Discard, theirs)
	t.Cleanup(func() { ours.Close() })
	s := &session{conn: ours}
	now := time.Now()
	for range maxOwed {
		now = now.Add(time.Minute) // as if each tick were that late
		if err := s.ping(now); err != nil {
			t.Fatalf("with %d answers missing: %v", s.owed, err)
		}
	}
	if err := s.ping(now); err == nil {
		t.Errorf("with %d answers missing the gate is taken for well", s.owed)
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

func hasState(id proc.ID, state byte) error {
	st, err := proc.Default.Stat(id.PID)
	if err == nil && (st.ID != id || st.State != state) {
		err = fmt.Errorf("process %v is in state %c", st.ID, st.State)
	}
	return err
}
