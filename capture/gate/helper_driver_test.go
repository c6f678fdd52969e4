package gate

import (
	"net"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"culprit/internal/testkit"
)

// Every test here has a gate process of its own, for which the test is the daemon. The gate
// dies with the end of its test, the end of its socket, by its watchdog or, at the latest, by
// the alarm in helper. So no execve on the machine waits for ever.

// soon is how long something may take that should happen at once, as test machines are busy.
// forever is a deadline of the gate that no test waits for, so that what goes on does so for
// another reason.
const (
	soon    = 15 * time.Second
	forever = 30 * time.Second
)

// All tests share the machine's UIDs and execves, so no two tests may use the same UID.
var lastUID atomic.Uint32

func newUID() uint32 {
	return 647_000_000 + uint32(os.Getpid()%32_768)*1_000 + lastUID.Add(1)
}

// A driver plays the daemon of a gate.
type driver struct {
	t     *testing.T
	cmd   *exec.Cmd
	pid   int
	conn  *net.UnixConn
	held  chan Held
	marks chan string
	count chan Counts
	ended chan struct{} // closed when the gate has been waited for
	pings sync.WaitGroup
	mute  chan struct{} // closed to stop the pings
}

// starter starts a command, perhaps in a namespace.
type starter func(*exec.Cmd) error

// startGate starts a gate that never asks about the loader, so that each execve of a dynamic
// program is held once, as it is when strace is attached from then on.
func startGate(t *testing.T, start starter, deadline time.Duration, args ...string) *driver {
	t.Helper()
	testkit.Root(t)
	_, loader := dynamic(t)
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), ""), os.NewFile(uintptr(pair[1]), "")
	defer ours.Close()
	defer theirs.Close()
	c, err := net.FileConn(ours)
	if err != nil {
		t.Fatal(err)
	}
	d := &driver{
		t: t, conn: c.(*net.UnixConn),
		held: make(chan Held, 10_000), marks: make(chan string, 1000), count: make(chan Counts, 10_000),
		ended: make(chan struct{}), mute: make(chan struct{}),
	}
	d.cmd = exec.Command(os.Args[0], append([]string{"gate", "--deadline", deadline.String(), "--exempt", loader}, args...)...)
	d.cmd.Stderr = os.Stderr
	d.cmd.ExtraFiles = []*os.File{theirs}
	if start == nil {
		start = (*exec.Cmd).Start
	}
	if err := start(d.cmd); err != nil {
		t.Fatal(err)
	}
	d.pid = d.cmd.Process.Pid
	go func() {
		defer close(d.ended)
		d.cmd.Wait()
	}()
	t.Cleanup(func() {
		d.kill(syscall.SIGKILL)
		<-d.ended
		d.conn.Close()
	})
	go d.receive()
	d.pings.Go(d.ping)
	return d
}

func (d *driver) receive() {
	buf := make([]byte, maxMessage)
	for {
		n, err := d.conn.Read(buf)
		if err != nil || n == 0 {
			return
		}
		switch buf[0] {
		case kindHeld:
			h, err := decodeHeld(buf[:n])
			if err != nil {
				d.t.Errorf("the gate sent %x: %v", buf[:n], err)
			}
			d.held <- h
		case kindMarks:
			d.marks <- string(buf[1:n])
		case kindPing:
			c, err := decodeCounts(buf[:n])
			if err != nil {
				d.t.Errorf("the gate sent %x: %v", buf[:n], err)
			}
			d.count <- c
		default:
			d.t.Errorf("the gate sent %x", buf[:n])
		}
	}
}

// ping pings as the keeper does, until silence.
func (d *driver) ping() {
	for {
		d.conn.Write([]byte{kindPing})
		select {
		case <-time.After(pingEvery):
		case <-d.mute:
			return
		case <-d.ended:
			return
		}
	}
}

// silence ends the pings.
func (d *driver) silence() {
	close(d.mute)
	d.pings.Wait()
}

func (d *driver) send(b []byte) {
	d.t.Helper()
	if _, err := d.conn.Write(b); err != nil {
		d.t.Fatalf("write to the gate: %v", err)
	}
}

// watch watches UIDs, and waits until the marks are set. It returns what is not covered.
func (d *driver) watch(uids ...uint32) (trouble string) {
	d.t.Helper()
	d.send(encodeWatch(uids))
	if len(uids) == 0 {
		return ""
	}
	return await(d.t, d.marks, "the gate says that the file systems are marked")
}

// counts asks for the current counts.
func (d *driver) counts() Counts {
	d.t.Helper()
	for { // earlier answers
		select {
		case <-d.count:
			continue
		default:
		}
		break
	}
	d.send([]byte{kindPing})
	d.send([]byte{kindPing})
	await(d.t, d.count, "the gate answers a ping")
	return await(d.t, d.count, "the gate answers a ping")
}

func (d *driver) kill(s syscall.Signal) {
	select {
	case <-d.ended: // its PID may be another process's
	default:
		d.cmd.Process.Signal(s)
	}
}

// hold waits until a process is held.
func (d *driver) hold() Held {
	d.t.Helper()
	return await(d.t, d.held, "a program is held")
}

// none fails the test if a process was held that the test did not wait for.
func (d *driver) none() {
	d.t.Helper()
	d.counts() // the answer comes after all holds before it
	select {
	case h := <-d.held:
		d.t.Errorf("held: %+v, want nobody", h)
	default:
	}
}

// isMarked reports whether the gate would be asked about anything.
func (d *driver) isMarked() bool {
	d.t.Helper()
	marks, _ := testkit.FanotifyMarks(d.t, d.pid)
	return marks > 0
}

// await receives a value that should come soon.
func await[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(soon):
		t.Fatalf("%s: not within %v", what, soon)
		panic("unreachable")
	}
}

func eventually(t *testing.T, what string, ok func() error) {
	t.Helper()
	testkit.Within(t, soon, what, ok)
}
