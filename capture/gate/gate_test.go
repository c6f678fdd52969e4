package gate

import (
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"culprit/internal/proc"
	"culprit/internal/testkit"
)

// The gate holds the program inside its execve until the daemon says go, and holds nobody else.
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
	// Meanwhile a program of another user does not wait, nor does one of root's.
	other.run("/bin/true")
	other.end()
	if out, err := exec.Command("/bin/true").CombinedOutput(); err != nil {
		t.Errorf("/bin/true: %v: %s", err, out)
	}
	watched.waits()
	d.send(encodeGo(h.Number + 1)) // not its number
	d.send([]byte{kindGo, 1, 2})   // no number
	d.send([]byte{'?', 1, 2})      // an unknown message
	watched.waits()
	d.send(encodeGo(h.Number))
	watched.end()
	d.send(encodeGo(h.Number)) // too late, and harmless

	// The next program has another number.
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

// The watched UIDs can change, even while a program is held.
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

	// A program that is held when nothing is watched any more still waits for go.
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

	// Then once more from the beginning.
	d.watch(b.uid)
	b.run("/bin/true")
	d.send(encodeGo(d.hold().Number))
	b.end()
}

// No program is held longer than the deadline.
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
	// Many programs at once share the deadline, instead of waiting for one after the other.
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

// Of many programs at once all are held, and all go on.
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
	for number := range numbers { // in any order
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

// A process that is already traced is not held, because strace follows it.
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

// A process that is killed while it is held does no harm.
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
