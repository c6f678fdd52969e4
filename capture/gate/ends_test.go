package gate

import (
	"errors"
	"syscall"
	"testing"
	"time"
)

// Whatever ends the gate, held programs go on long before the deadline, because the kernel lets
// them go.
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

// The watchdog kills a gate that hangs, and all programs go on: the held ones, and those of
// other users, which a hanging gate cannot let go either.
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

// A gate that watches nothing, so that nobody waits for it, may be stopped.
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

// The gate holds nothing for a daemon that has fallen silent.
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
	// The gate heard the pings of none and counts.
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

// Nor does it for a daemon that does not read: at some time its socket is full.
func TestDaemonDoesNotRead(t *testing.T) {
	r := newRunner(t, nil, newUID())
	d := startGate(t, nil, forever)
	d.watch(r.uid)
	d.conn.SetReadDeadline(time.Now().Add(-time.Second)) // we stop reading
	for range 30_000 {                                   // more answers than fit into the socket
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
