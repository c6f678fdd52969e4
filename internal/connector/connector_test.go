package connector

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	"culprit/internal/testkit"
)

// patience is how long a test waits for an event.
const patience = 20 * time.Second

// mustOpen opens a Conn. A test that still waits for events when its patience ends gets an
// error.
func mustOpen(t testing.TB, readBuffer int) *Conn {
	t.Helper()
	testkit.Root(t)
	c, err := open(readBuffer)
	if err != nil {
		t.Fatal(err)
	}
	alarm := time.AfterFunc(patience, func() { c.Close() })
	t.Cleanup(func() {
		alarm.Stop()
		c.Close()
	})
	return c
}

// receive returns the events of a process and its descendants until the process has exited the
// given number of times.
func receive(t *testing.T, c *Conn, pid, exits int) (events []Event) {
	t.Helper()
	family := map[int]bool{pid: true}
	for {
		got, err := c.Receive()
		if err != nil {
			t.Fatalf("%v, after %+v", err, events)
		}
		for _, e := range got {
			if e.Kind == Fork && family[e.Parent] {
				family[e.PID] = true
			}
			if family[e.PID] {
				events = append(events, e)
			}
			if e.Kind == Exit && e.PID == pid {
				exits--
			}
			if exits == 0 {
				return events
			}
		}
	}
}

func now(t *testing.T) time.Duration {
	t.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		t.Fatal(err)
	}
	return time.Duration(ts.Nano())
}

// role is the environment variable that tells a child of this test what to do.
const role = "CONNECTOR_TEST_ROLE"

// again returns a command that runs a test again, in another role.
func again(test, as string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+test+"$", "-test.v", "-test.timeout="+patience.String())
	cmd.Env = append(os.Environ(), role+"="+as)
	return cmd
}

func TestReceive(t *testing.T) {
	t.Parallel()
	testReceive(t)
}

// The daemon may run in a network namespace of its own.
func TestReceiveInOtherNet(t *testing.T) {
	t.Parallel()
	testkit.Root(t)
	if os.Getenv(role) != "" {
		if own, initial := netOf(t, "thread-self"), netOf(t, "2"); own == initial {
			t.Fatal("the test is in the initial namespace")
		}
		testReceive(t)
		return
	}
	cmd := again("TestReceiveInOtherNet", "daemon")
	var out []byte
	var err error
	testkit.NewNet(t).Do(func() { out, err = cmd.CombinedOutput() })
	if err != nil || !strings.Contains(string(out), "--- PASS") {
		t.Errorf("%v\n%s", err, out)
	}
}

func testReceive(t *testing.T) {
	c := mustOpen(t, readBuffer)
	// A process that runs as 4242, has a child, and fails.
	cmd := exec.Command("sh", "-c", "env true; exit 3")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 4242, Gid: 4242}}
	before := now(t)
	var exit *exec.ExitError
	if err := cmd.Run(); !errors.As(err, &exit) {
		t.Fatal(err)
	}
	after := now(t)
	pid, child := cmd.Process.Pid, 0
	events := receive(t, c, pid, 1)
	for _, e := range events {
		if e.Kind == Fork && e.Parent == pid {
			child = e.PID
		}
		if e.Time < before || e.Time > after {
			t.Errorf("%+v is not between %v and %v", e, before, after)
		}
	}
	want := []Event{
		{Kind: Fork, PID: pid, Parent: os.Getpid()},
		{Kind: UID, PID: pid, RUID: 4242, EUID: 4242},
		{Kind: Exec, PID: pid},
		{Kind: Fork, PID: child, Parent: pid},
		{Kind: Exec, PID: child}, // env
		{Kind: Exec, PID: child}, // true
		{Kind: Exit, PID: child},
		{Kind: Exit, PID: pid, ExitCode: 3 << 8},
	}
	if diff := cmp.Diff(want, events, cmpopts.IgnoreFields(Event{}, "Time")); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// A thread other than the first executes a program: its process exits before it executes.
// Threads cause no other events.
func TestReceiveExecOfThread(t *testing.T) {
	t.Parallel()
	if os.Getenv(role) != "" {
		execOnThread(t, 10)
	}
	c := mustOpen(t, readBuffer)
	cmd := again("TestReceiveExecOfThread", "threads")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	pid := cmd.Process.Pid
	want := []Event{
		{Kind: Fork, PID: pid, Parent: os.Getpid()},
		{Kind: Exec, PID: pid},
		{Kind: Exit, PID: pid},
		{Kind: Exec, PID: pid},
		{Kind: Exit, PID: pid},
	}
	events := receive(t, c, pid, 2)
	if diff := cmp.Diff(want, events, cmpopts.IgnoreFields(Event{}, "Time")); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// execOnThread executes a program on a thread other than the first, while there are many. It
// does not return.
func execOnThread(t *testing.T, threads int) {
	result := make(chan error, threads)
	var locked sync.WaitGroup
	locked.Add(threads)
	for range threads {
		go func() {
			runtime.LockOSThread()
			locked.Done()
			locked.Wait()
			if unix.Gettid() != unix.Getpid() {
				result <- unix.Exec("/bin/true", []string{"true"}, nil)
			}
		}()
	}
	t.Fatal(<-result)
}

func TestOverrun(t *testing.T) {
	t.Parallel()
	c := mustOpen(t, 64<<10)
	if out, err := exec.Command("sh", "-c", "for i in $(seq 300); do env true; done").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	queued := 0
	for {
		events, err := c.Receive()
		queued += len(events)
		if errors.Is(err, ErrOverrun) && errors.Is(err, unix.ENOBUFS) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if queued == 0 || queued >= 300*4 {
		t.Errorf("received %d events before the news of others that were lost", queued)
	}
	// Receiving goes on.
	cmd := exec.Command("true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	if events := receive(t, c, cmd.Process.Pid, 1); len(events) != 3 {
		t.Errorf("after the overrun: %+v", events)
	}
}

func TestClose(t *testing.T) {
	t.Parallel()
	c := mustOpen(t, readBuffer)
	ended := make(chan error)
	go func() {
		for {
			if _, err := c.Receive(); err != nil {
				ended <- err
				return
			}
		}
	}()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	select {
	case err := <-ended:
		if !errors.Is(err, os.ErrClosed) {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("Receive still waits")
	}
	if _, err := c.Receive(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Receive after Close: %v", err)
	}
	if err := c.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Close after Close: %v", err)
	}
}

func TestOpenInOtherPIDNamespace(t *testing.T) {
	t.Parallel()
	testkit.Root(t)
	if os.Getenv(role) != "" {
		_, err := Open()
		if !errors.Is(err, os.ErrDeadlineExceeded) || !strings.Contains(err.Error(), "initial PID") {
			t.Error(err)
		}
		return
	}
	cmd := again("TestOpenInOtherPIDNamespace", "container")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestOpenUnprivileged(t *testing.T) {
	t.Parallel()
	if os.Getenv(role) != "" {
		if _, err := Open(); !errors.Is(err, os.ErrPermission) {
			t.Error(err)
		}
		return
	}
	testkit.Root(t)
	cmd := again("TestOpenUnprivileged", "nobody")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
		t.Errorf("%v\n%s", err, out)
	}
}

// No thread of the process may be left in another namespace.
func TestEnterInitialNet(t *testing.T) {
	t.Parallel()
	n := testkit.NewNet(t)
	var before, inside, after uint64
	var restored bool
	var err error
	n.Do(func() {
		before = netOf(t, "thread-self")
		restored, err = enterInitialNet(func() error {
			inside = netOf(t, "thread-self")
			return nil
		})
		after = netOf(t, "thread-self")
	})
	if err != nil || !restored || inside != netOf(t, "2") || before == inside || after != before {
		t.Errorf("restored: %t, %v; namespaces before, inside, after: %d %d %d", restored, err, before, inside, after)
	}
}

// netOf returns the inode number of a process's network namespace, 0 on an error.
func netOf(t testing.TB, pid string) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat("/proc/"+pid+"/ns/net", &st); err != nil {
		t.Error(err)
	}
	return st.Ino
}

// BenchmarkReceive measures the cost of an event, from the change of a thread's file system
// UID, the cheapest event there is, to its Event. The same without a listener is the cost of
// the system call.
func BenchmarkReceive(b *testing.B) {
	const events = 1000 // they fit into the queue
	change := func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		for i := range uintptr(events) {
			syscall.RawSyscall(syscall.SYS_SETFSUID, 1-i%2, 0, 0)
		}
	}
	run := func(b *testing.B, receive func()) {
		for b.Loop() {
			change()
			receive()
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/events, "ns/event")
	}
	b.Run("nobody listens", func(b *testing.B) { run(b, func() {}) })
	b.Run("received", func(b *testing.B) {
		c := mustOpen(b, readBuffer)
		b.ReportAllocs()
		run(b, func() {
			for seen := 0; seen < events; {
				got, err := c.Receive()
				if err != nil {
					b.Fatal(err)
				}
				for _, e := range got {
					if e.Kind == UID && e.PID == os.Getpid() {
						seen++
					}
				}
			}
		})
	})
}
