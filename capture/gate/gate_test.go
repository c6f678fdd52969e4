package gate

import (
	"bufio"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"culprit/internal/proc"
	"culprit/internal/testkit"
)

// Every test here has a gate of its own, a process, whose daemon is the test. It
// dies of the end of its test, of the end of its socket, of its watchdog and, at the
// latest, of the alarm in helper: no execve on the machine waits for ever.

// soon is how long something may take that should be there at once: machines that
// test are busy ones. And forever is a deadline of the gate that no test waits for,
// so that what goes on went on for another reason.
const (
	soon    = 15 * time.Second
	forever = 30 * time.Second
)

// UIDs are the machine's, and so is the gate: no two tests may share any.
var lastUID atomic.Uint32

func newUID() uint32 {
	return 647_000_000 + uint32(os.Getpid()%32_768)*1_000 + lastUID.Add(1)
}

// A driver is the daemon of a gate.
type driver struct {
	t     *testing.T
	cmd   *exec.Cmd
	pid   int
	conn  *net.UnixConn
	held  chan Held
	marks chan string
	count chan Counts
	ended chan struct{} // closed when the gate was waited for
	pings sync.WaitGroup
	mute  chan struct{} // closed to ping no more
}

// starter starts a command, perhaps in a namespace.
type starter func(*exec.Cmd) error

// startGate starts a gate that never asks about the loader, so that each execve of a
// dynamic program is held once, as it is when strace holds it from then on.
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

// watch watches, and waits until the marks are set. It returns what is not covered.
func (d *driver) watch(uids ...uint32) (trouble string) {
	d.t.Helper()
	d.send(encodeWatch(uids))
	if len(uids) == 0 {
		return ""
	}
	return await(d.t, d.marks, "the gate says that the file systems are marked")
}

// counts asks for the counts as they are now.
func (d *driver) counts() Counts {
	d.t.Helper()
	for { // what was answered before
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
	case <-d.ended: // its PID may be another's
	default:
		d.cmd.Process.Signal(s)
	}
}

// hold waits until a process is held.
func (d *driver) hold() Held {
	d.t.Helper()
	return await(d.t, d.held, "a program is held")
}

// none fails the test if anything is held that was not taken note of.
func (d *driver) none() {
	d.t.Helper()
	d.counts() // which comes behind what was held before
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

// await takes something from a channel that should be there soon.
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
	for deadline := time.Now().Add(soon); ; time.Sleep(5 * time.Millisecond) {
		err := ok()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v: %v", what, soon, err)
		}
	}
}

// A runner is a shell of some user that runs programs. Go's fork would wait for the
// gate, and we are the one that tells the gate to let go.
type runner struct {
	t      *testing.T
	uid    uint32
	pid    int
	stdin  io.WriteCloser
	result chan result
}

// result is how a program has ended, and when.
type result struct {
	said string
	at   time.Time
}

// newRunner starts a shell. Do so before its UID is watched.
func newRunner(t *testing.T, start starter, uid uint32) *runner {
	t.Helper()
	testkit.Root(t)
	r := &runner{t: t, uid: uid, result: make(chan result, 100)}
	cmd := exec.Command("/bin/sh", "-c", `while read -r line; do eval "$line"; echo "ended $?"; done`)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	var err error
	if r.stdin, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if start == nil {
		start = (*exec.Cmd).Start
	}
	if err := start(cmd); err != nil {
		t.Fatal(err)
	}
	r.pid = cmd.Process.Pid
	t.Cleanup(func() {
		syscall.Kill(-r.pid, syscall.SIGKILL) // those it runs too
		cmd.Wait()
	})
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			r.result <- result{lines.Text(), time.Now()}
		}
	}()
	return r
}

// run runs a command of the shell and returns at once, with the time.
func (r *runner) run(command string) time.Time {
	r.t.Helper()
	start := time.Now()
	if _, err := io.WriteString(r.stdin, command+"\n"); err != nil {
		r.t.Fatal(err)
	}
	return start
}

// end waits for the end of the command, and returns when that was.
func (r *runner) end() time.Time {
	r.t.Helper()
	got := await(r.t, r.result, "the program ends")
	if got.said != "ended 0" {
		r.t.Errorf("the runner said %q, want that the program ended with 0", got.said)
	}
	return got.at
}

// waits checks that the command has not ended, for a moment.
func (r *runner) waits() {
	r.t.Helper()
	select {
	case got := <-r.result:
		r.t.Fatalf("the program went on, want it held: %q", got.said)
	case <-time.After(200 * time.Millisecond):
	}
}

// The program is held inside its execve until the daemon says go, and nobody else.
func TestHold(t *testing.T) {
	program, loader := dynamic(t)
	watched, other := newRunner(t, nil, newUID()), newRunner(t, nil, newUID())
	d := startGate(t, nil, forever)
	if trouble := d.watch(watched.uid, newUID()); trouble != "" {
		t.Logf("not covered: %s", trouble)
	}
	before := d.counts()
	watched.run("/bin/true")
	h := d.hold()
	st, err := proc.Default.Stat(h.ID.PID)
	if err != nil || st.ID != h.ID || st.PPID != watched.pid {
		t.Errorf("held: %+v, want a child of %d: %+v, %v", h, watched.pid, st, err)
	}
	if h.UID != watched.uid || h.Path != program || h.Number == 0 {
		t.Errorf("held: %+v, want %s for UID %d", h, program, watched.uid)
	}
	if exe, err := proc.Default.Executable(h.ID.PID); err != nil || exe != resolve(t, "/bin/sh") {
		t.Errorf("the held process is %s (%v), want it still to be the shell", exe, err)
	}
	// Somebody else's program does not wait meanwhile, nor does root's.
	other.run("/bin/true")
	other.end()
	if out, err := exec.Command("/bin/true").CombinedOutput(); err != nil {
		t.Errorf("/bin/true: %v: %s", err, out)
	}
	watched.waits()
	d.send(encodeGo(h.Number + 1)) // not its number
	d.send([]byte{kindGo, 1, 2})   // no number
	d.send([]byte{'?', 1, 2})      // nothing we know
	watched.waits()
	d.send(encodeGo(h.Number))
	watched.end()
	d.send(encodeGo(h.Number)) // too late, and no matter

	// The next one has a number of its own.
	watched.run("/bin/true")
	second := d.hold()
	if second.Number == h.Number || second.ID == h.ID {
		t.Errorf("held: %+v, after %+v", second, h)
	}
	d.send(encodeGo(second.Number))
	watched.end()
	d.none()
	if c := d.counts(); c.Held != 2 || c.Expired != 0 || c.Busy != 0 || c.Passed < before.Passed+2 {
		t.Errorf("the counts are %+v, before %+v; want 2 held, and more that passed", c, before)
	}
	if _, ignoring := testkit.FanotifyMarks(t, d.pid); ignoring != 1 {
		t.Errorf("%d files are exempt, want %s", ignoring, loader)
	}
}

// What is watched can change, also while somebody is held.
func TestWatchChanges(t *testing.T) {
	a, b := newRunner(t, nil, newUID()), newRunner(t, nil, newUID())
	d := startGate(t, nil, forever)
	a.run("/bin/true")
	a.end()
	d.none()
	if d.isMarked() {
		t.Errorf("there are marks before anything is watched")
	}
	d.watch(a.uid)
	if !d.isMarked() {
		t.Errorf("there are no marks")
	}
	a.run("/bin/true")
	h := d.hold()
	d.send(encodeWatch([]uint32{b.uid}))
	b.run("/bin/true")
	hb := d.hold()
	if hb.UID != b.uid {
		t.Errorf("held: %+v, want UID %d", hb, b.uid)
	}
	d.send(encodeGo(hb.Number)) // the later one first
	b.end()
	a.waits()
	d.send(encodeGo(h.Number))
	a.end()
	a.run("/bin/true")
	a.end()
	d.none()

	// Who is held when nothing is watched any more waits for go, too.
	b.run("/bin/true")
	h = d.hold()
	d.send(encodeWatch(nil))
	eventually(t, "the marks are gone", func() error {
		if d.isMarked() {
			return errors.New("there are some")
		}
		return nil
	})
	if _, ignoring := testkit.FanotifyMarks(t, d.pid); ignoring != 1 {
		t.Errorf("%d files are exempt, want 1", ignoring)
	}
	b.waits()
	d.send(encodeGo(h.Number))
	b.end()
	b.run("/bin/true")
	b.end()
	d.none()

	// And once more from the beginning.
	d.watch(b.uid)
	b.run("/bin/true")
	d.send(encodeGo(d.hold().Number))
	b.end()
}

// Nobody is held longer than the deadline.
func TestDeadline(t *testing.T) {
	const deadline = 500 * time.Millisecond
	r := newRunner(t, nil, newUID())
	d := startGate(t, nil, deadline)
	d.watch(r.uid)
	for range 2 {
		start := r.run("/bin/true")
		d.hold()
		if took := r.end().Sub(start); took < deadline || took > soon {
			t.Errorf("the program was held for %v, want %v", took, deadline)
		} else {
			t.Logf("held for %v with a deadline of %v", took, deadline)
		}
	}
	// Many at once have one deadline, not one after the other.
	start := r.run("i=0; while [ $i -lt 100 ]; do /bin/true & i=$((i+1)); done; wait")
	for range 100 {
		d.hold()
	}
	took := r.end().Sub(start)
	t.Logf("100 at once took %v", took)
	if took < deadline || took > soon {
		t.Errorf("100 programs at once took %v, want %v", took, deadline)
	}
	if c := d.counts(); c.Held != 102 || c.Expired != 102 {
		t.Errorf("the counts are %+v, want 102 that were held until the deadline", c)
	}
}

// Many programs at once are all held and all go on.
func TestCrowd(t *testing.T) {
	uid := newUID()
	var runners []*runner
	for range 4 {
		runners = append(runners, newRunner(t, nil, uid))
	}
	d := startGate(t, nil, forever)
	d.watch(uid)
	const each = 50
	for _, r := range runners {
		r.run(fmt.Sprintf("i=0; while [ $i -lt %d ]; do /bin/true & i=$((i+1)); done; wait", each))
	}
	numbers := map[uint64]bool{}
	for range each * len(runners) {
		h := d.hold()
		if numbers[h.Number] {
			t.Errorf("the number of %+v was used before", h)
		}
		numbers[h.Number] = true
	}
	for number := range numbers { // in no order
		d.send(encodeGo(number))
	}
	for _, r := range runners {
		r.end()
	}
	d.none()
	if c := d.counts(); c.Held != uint64(len(numbers)) || c.Expired != 0 || c.Busy != 0 {
		t.Errorf("the counts are %+v, want %d held", c, len(numbers))
	}
}

// Who is traced already is not held: strace follows it.
func TestTracedPass(t *testing.T) {
	r := newRunner(t, nil, newUID())
	d := startGate(t, nil, forever)
	d.watch(r.uid)
	strace := exec.Command("strace", "-f", "-o", "/dev/null", "-p", strconv.Itoa(r.pid))
	if err := strace.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		strace.Process.Kill()
		strace.Wait()
	})
	eventually(t, "strace is on the shell", func() error {
		if s, err := proc.Default.Status(r.pid); err != nil || s.TracerPID == 0 {
			return fmt.Errorf("tracer %d, %v", s.TracerPID, err)
		}
		return nil
	})
	r.run("/bin/true")
	r.end()
	if h := await(t, d.held, "the daemon is told"); h.Number != 0 || h.UID != r.uid {
		t.Errorf("told %+v, want a process of ours without a number", h)
	}
	if c := d.counts(); c.Held != 0 || c.Busy != 0 {
		t.Errorf("the counts are %+v, want nothing held", c)
	}
}

// A process that is killed while it is held is no trouble.
func TestHeldIsKilled(t *testing.T) {
	r := newRunner(t, nil, newUID())
	d := startGate(t, nil, forever)
	d.watch(r.uid)
	r.run("(sleep 1000); true")
	h := d.hold()
	if err := syscall.Kill(h.ID.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r.end()
	d.send(encodeGo(h.Number))
	r.run("/bin/true")
	d.send(encodeGo(d.hold().Number))
	r.end()
}

// Whatever ends the gate, who was held goes on long before the deadline: the
// kernel lets all go.
func TestGateEnds(t *testing.T) {
	for name, end := range map[string]func(*driver){
		"socket closes": func(d *driver) { d.conn.Close() },
		"SIGKILL":       func(d *driver) { d.kill(syscall.SIGKILL) },
		"SIGTERM":       func(d *driver) { d.kill(syscall.SIGTERM) },
	} {
		t.Run(name, func(t *testing.T) {
			r, other := newRunner(t, nil, newUID()), newRunner(t, nil, newUID())
			d := startGate(t, nil, forever)
			d.watch(r.uid)
			r.run("/bin/true & /bin/true & /bin/true & wait")
			for range 3 {
				d.hold()
			}
			end(d)
			r.end()
			other.run("/bin/true")
			other.end()
			await(t, d.ended, "the gate ends")
			if ok := d.cmd.ProcessState.Success(); ok != (name == "socket closes") {
				t.Errorf("the gate ended with %v", d.cmd.ProcessState)
			}
			r.run("/bin/true")
			r.end()
		})
	}
}

// A gate that hangs is killed by its watchdog, and all go on: the held ones, and
// those of others, who cannot be let go by a gate that hangs either.
func TestGateHangs(t *testing.T) {
	const deadline = 500 * time.Millisecond
	r, other := newRunner(t, nil, newUID()), newRunner(t, nil, newUID())
	d := startGate(t, nil, deadline)
	d.watch(r.uid)
	r.run("/bin/true")
	d.hold()
	d.kill(syscall.SIGSTOP)
	start := other.run("/bin/true")
	r.end()
	took := other.end().Sub(start)
	t.Logf("a program of somebody else took %v with a deadline of %v", took, deadline)
	await(t, d.ended, "the watchdog strikes")
	if status := d.cmd.ProcessState.Sys().(syscall.WaitStatus); !status.Signaled() || status.Signal() != syscall.SIGKILL {
		t.Errorf("the gate ended with %v, want it killed", d.cmd.ProcessState)
	}
}

// While it watches nothing, and so nobody waits for it, the gate may be stopped.
func TestIdleGateRests(t *testing.T) {
	const deadline = 200 * time.Millisecond
	r := newRunner(t, nil, newUID())
	d := startGate(t, nil, deadline)
	d.watch(r.uid)
	d.watch()
	eventually(t, "the marks are gone", func() error {
		if d.isMarked() {
			return errors.New("there are some")
		}
		return nil
	})
	d.counts()
	d.kill(syscall.SIGSTOP)
	r.run("/bin/true")
	r.end()
	select {
	case <-d.ended:
		t.Fatalf("the gate ended with %v", d.cmd.ProcessState)
	case <-time.After(2 * (deadline + patience)):
	}
	d.kill(syscall.SIGCONT)
	d.watch(r.uid)
	r.run("/bin/true")
	d.hold()
	r.end()
}

// Nothing is held for a daemon that says nothing any more.
func TestDaemonHangs(t *testing.T) {
	const deadline = 200 * time.Millisecond
	r := newRunner(t, nil, newUID())
	d := startGate(t, nil, deadline)
	d.watch(r.uid)
	d.silence()
	time.Sleep(deadline + 2*pingEvery + 50*time.Millisecond)
	for range 3 {
		r.run("/bin/true")
		r.end()
	}
	d.none()
	if c := d.counts(); c.Busy != 3 || c.Held != 0 {
		t.Errorf("the counts are %+v, want 3 that were let go because the daemon said nothing", c)
	}
	// The pings of none and counts were heard.
	eventually(t, "programs are held again", func() error {
		d.counts()
		r.run("/bin/true")
		r.end()
		select {
		case <-d.held:
			return nil
		default:
			return errors.New("they are not")
		}
	})
}

// Nor for one that does not read what it is told: its socket is full some day.
func TestDaemonDoesNotRead(t *testing.T) {
	r := newRunner(t, nil, newUID())
	d := startGate(t, nil, forever)
	d.watch(r.uid)
	d.conn.SetReadDeadline(time.Now().Add(-time.Second)) // we read no more
	for range 30_000 {                                   // more answers than the socket takes
		d.send([]byte{kindPing})
	}
	r.run("/bin/true")
	r.end()
	select {
	case <-d.ended:
		t.Errorf("the gate ended with %v", d.cmd.ProcessState)
	default:
	}
}

// Where nobody can attach to a process in execve, it is stopped before its first
// instruction instead, and goes on all the same.
func TestStopMode(t *testing.T) {
	const deadline = 500 * time.Millisecond
	for _, c := range []struct {
		name     string
		deadline time.Duration
		release  func(*driver, Held)
	}{
		{"go", forever, func(d *driver, h Held) { d.send(encodeGo(h.Number)) }},
		{"deadline", deadline, func(*driver, Held) {}},
		{"end of the gate", forever, func(d *driver, _ Held) { d.conn.Close() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, other := newRunner(t, nil, newUID()), newRunner(t, nil, newUID())
			d := startGate(t, nil, c.deadline, "--stop")
			d.watch(r.uid)
			start := r.run("/bin/true")
			h := d.hold()
			if h.UID != r.uid || h.Path != resolve(t, "/bin/true") {
				t.Errorf("held: %+v", h)
			}
			if c.deadline == forever {
				eventually(t, "the program is stopped", func() error {
					st, err := proc.Default.Stat(h.ID.PID)
					if err == nil && st.State != 'T' {
						err = fmt.Errorf("its state is %c", st.State)
					}
					return err
				})
				if exe, err := proc.Default.Executable(h.ID.PID); err != nil || exe != h.Path {
					t.Errorf("the process is %s (%v), want it to be %s by now", exe, err, h.Path)
				}
				atFirstInstruction(t, h.ID.PID)
				other.run("/bin/true")
				other.end()
				r.waits()
			}
			c.release(d, h)
			if took := r.end().Sub(start); c.deadline == deadline && took < deadline {
				t.Errorf("the program was stopped for %v, want %v", took, deadline)
			}
			if c.deadline == deadline {
				if got := d.counts(); got.Held != 1 || got.Expired != 1 {
					t.Errorf("the counts are %+v, want one that was held until the deadline", got)
				}
			}
		})
	}
}

// atFirstInstruction checks that a process has run nothing of its program: its next
// instruction is the entry of the loader.
func atFirstInstruction(t *testing.T, pid int) {
	t.Helper()
	_, loader := dynamic(t)
	e, err := elf.Open(loader)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	auxv, err := os.ReadFile(fmt.Sprintf("/proc/%d/auxv", pid))
	if err != nil {
		t.Fatal(err)
	}
	const atBase = 7 // where the loader is
	var base uint64
	for ; len(auxv) >= 16; auxv = auxv[16:] {
		if binary.NativeEndian.Uint64(auxv) == atBase {
			base = binary.NativeEndian.Uint64(auxv[8:])
		}
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/syscall", pid))
	if err != nil {
		t.Logf("where the process stands cannot be seen here: %v", err)
		return
	}
	fields := strings.Fields(string(text))
	at, err := strconv.ParseUint(fields[len(fields)-1], 0, 64)
	if want := base + e.Entry; err != nil || base == 0 || at != want {
		t.Errorf("the process stands at %#x (%q, %v), want its first instruction at %#x", at, text, err, want)
	}
}

// mountTmpfs mounts a tmpfs in a namespace, with a program on it.
func mountTmpfs(t *testing.T, n *testkit.Net) (program string) {
	t.Helper()
	dir := t.TempDir()
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	n.Do(func() { err = unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=755") })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Do(func() { unix.Unmount(dir, unix.MNT_DETACH) }) })
	program = filepath.Join(dir, "a b")
	n.Must(t, "cp", resolve(t, "/bin/true"), program)
	return program
}

// becomesHeld runs a program until it is held.
func (r *runner) becomesHeld(d *driver, program string) {
	r.t.Helper()
	eventually(r.t, program+" is held", func() error {
		r.run(`"` + program + `"`)
		for {
			select {
			case h := <-d.held:
				d.send(encodeGo(h.Number))
				if filepath.Base(h.Path) == filepath.Base(program) {
					r.end()
					return nil
				}
			case got := <-r.result:
				if got.said != "ended 0" {
					r.t.Fatalf("the program %s: %q", program, got.said)
				}
				return errors.New("it is not")
			}
		}
	})
}

// A file system that is mounted while the gate watches is marked too, and can be
// unmounted.
func TestMountedLater(t *testing.T) {
	n := testkit.NewNet(t)
	r := newRunner(t, n.Start, newUID())
	d := startGate(t, n.Start, forever)
	d.watch(r.uid)
	program := mountTmpfs(t, n)
	r.becomesHeld(d, program)
	eventually(t, "the file system is unmounted", func() (err error) {
		n.Do(func() { err = unix.Unmount(filepath.Dir(program), 0) })
		return err
	})
}

// So is one that only another mount namespace has, as containers do.
func TestOtherNamespace(t *testing.T) {
	d := startGate(t, nil, forever)
	n := testkit.NewNet(t)
	program := mountTmpfs(t, n)
	r := newRunner(t, n.Start, newUID())
	d.watch(r.uid)
	r.becomesHeld(d, program)
}

// A namespace that is made while the gate watches is found.
func TestNamespaceLater(t *testing.T) {
	d := startGate(t, nil, forever)
	d.watch(newUID())
	n := testkit.NewNet(t)
	program := mountTmpfs(t, n)
	r := newRunner(t, n.Start, newUID())
	d.send(encodeWatch([]uint32{r.uid}))
	r.becomesHeld(d, program)
}

// And what is mounted in another namespace that the gate has seen before.
func TestMountedLaterInOtherNamespace(t *testing.T) {
	d := startGate(t, nil, forever)
	n := testkit.NewNet(t)
	first := mountTmpfs(t, n)
	r := newRunner(t, n.Start, newUID())
	d.watch(r.uid)
	r.becomesHeld(d, first)
	r.becomesHeld(d, mountTmpfs(t, n))
}
