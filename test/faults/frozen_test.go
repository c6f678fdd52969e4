package faults

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"culprit/test/harness"
)

// Whoever stands still at a packet goes on, whatever becomes of the daemon and of the thawer.

func signal(t *testing.T, pid int, s syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(pid, s); err != nil {
		t.Fatalf("send %v to %d: %v", s, pid, err)
	}
}

// The thawer is killed, or hangs: the daemon lets all go on, long before the deadline, and starts
// another one.
func TestThawerFails(t *testing.T) {
	for name, c := range map[string]struct {
		signal syscall.Signal
		within time.Duration
	}{
		"killed":  {syscall.SIGKILL, 0},
		"stopped": {syscall.SIGSTOP, 1500 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newFreezer(t)
			d := freeze(h, frozen(5*time.Second), hung)
			all, uids := newcomers(h, 3)
			standStill(t, all...)
			old := d.Thawer()
			began := time.Now()
			signal(t, old, c.signal)
			goOn(t, began, c.within, all...)
			d.AwaitLog("the sensor's helper failed")
			stopsAgain(t, d, old)
			nothingLeft(t, h, d, uids...)
		})
	}
}

// The daemon hangs: who stands still goes on at the deadline, and when the lease is over nobody is
// stopped any more.
func TestFrozenDaemonStopped(t *testing.T) {
	t.Parallel()
	const deadline = 500 * time.Millisecond
	h := newFreezer(t)
	d := freeze(h, frozen(deadline), hung)
	all, uids := newcomers(h, 3)
	d.Signal(syscall.SIGSTOP)
	stopped := time.Now()
	began := standStill(t, all...) // the lease is still fresh
	goOn(t, began, deadline, all...)
	time.Sleep(time.Until(stopped.Add(lease + 100*time.Millisecond)))
	notStopped(t, h, "while the daemon hangs")
	d.Signal(syscall.SIGCONT)
	harness.Eventually(t, "senders are stopped again", func() error {
		s := h.Sender(harness.NewUID())
		s.Say("ask again.badzone.test 1")
		defer s.Reply()
		time.Sleep(deadline / 10)
		return isStopped(s.PID)
	})
	nothingLeft(t, h, d, uids...)
}

// The daemon is killed, or told to stop, while processes stand still: they go on at once.
func TestEndWhileFrozen(t *testing.T) {
	for name, s := range map[string]syscall.Signal{"SIGKILL": syscall.SIGKILL, "SIGTERM": syscall.SIGTERM} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newFreezer(t)
			d := freeze(h, frozen(5*time.Second), hung)
			all, uids := newcomers(h, 3)
			standStill(t, all...)
			began := time.Now()
			d.Signal(s)
			goOn(t, began, time.Second, all...)
			d.Wait()
			d.Gone()
			if files := left(h); len(files) > 0 {
				t.Errorf("culprit left %v", files)
			}
			h.Unharmed(uids...)
		})
	}
}

// The daemon and its thawer are killed at the same instant, so that nobody is there to let go who
// stands still. The kernel keeps a record of who that is: the next culprit, or `culprit rules remove`,
// goes by it. Who had gone on, and was stopped by somebody else since, stays stopped.
func TestBothKilled(t *testing.T) {
	for _, next := range []string{"the next culprit", "rules remove"} {
		t.Run(next, func(t *testing.T) {
			t.Parallel()
			h := newFreezer(t)
			before := h.Firewall()
			d := freeze(h, frozen(2*time.Second), hung)
			all, uids := newcomers(h, 3)
			// This one has gone on again before, and somebody stops it.
			theirs := all[0]
			goOn(t, standStill(t, theirs), 2*time.Second, theirs)
			standStill(t, all[1:]...) // tells the thawer, too
			theirs.Signal(syscall.SIGSTOP)

			syscall.Kill(d.PID, syscall.SIGSTOP) // so that it does not see the thawer's end
			signal(t, d.Thawer(), syscall.SIGKILL)
			d.Signal(syscall.SIGKILL)
			d.Wait()
			d.Gone()
			for _, s := range all {
				if err := isStopped(s.PID); err != nil {
					t.Errorf("after both were killed a sender goes on: %v", err)
				}
			}
			if files := left(h); len(files) == 0 {
				t.Error("they left no record")
			}
			began := time.Now()
			if next == "rules remove" {
				h.Culprit("rules", "remove").Must(t)
				goOn(t, began, time.Second, all[1:]...)
			} else {
				d := h.HuntWith(d.Config, d.Evidence)
				goOn(t, began, 3*time.Second, all[1:]...)
				d.Stop()
			}
			stays(t, theirs)
			theirs.Signal(syscall.SIGCONT)
			if files := left(h); len(files) > 0 {
				t.Errorf("the next one left %v", files)
			}
			h.Unharmed(uids...)
			h.Unchanged(before, "after the next one")
		})
	}
}

// A process that somebody else stops while it stands still stays stopped until they let it go
// on. One that is killed meanwhile is dead.
func TestOthersSignalFrozen(t *testing.T) {
	t.Parallel()
	const deadline = 500 * time.Millisecond
	h := newFreezer(t)
	d := freeze(h, frozen(deadline), hung)
	all, uids := newcomers(h, 4)
	stopped, continued, killed, reloaded := all[0], all[1], all[2], all[3]
	began := standStill(t, all...)
	stopped.Signal(syscall.SIGSTOP)
	continued.Signal(syscall.SIGCONT)
	killed.Signal(syscall.SIGKILL)
	d.Signal(syscall.SIGHUP)
	continued.Reply()
	if got := killed.Wait(); got != 128+int(syscall.SIGKILL) {
		t.Errorf("the process that was killed ended with %d", got)
	}
	goOn(t, began, deadline, reloaded)
	d.AwaitLog("reloaded")
	time.Sleep(time.Until(began.Add(2 * deadline)))
	stays(t, stopped)
	stopped.Signal(syscall.SIGCONT)
	stopped.Reply()
	nothingLeft(t, h, d, append(uids[:2], uids[3])...)
}

// In each of these a strace cannot be started or does not attach, or nothing can be written. The
// sender goes on, at once or at the deadline.
func TestFrozenWithoutStrace(t *testing.T) {
	const long, short = 4 * time.Second, 500 * time.Millisecond
	for name, c := range map[string]struct {
		deadline, within time.Duration
		script           string
		prepare          func(*testing.T, *harness.Host, *harness.Daemon)
	}{
		"hangs":       {short, short, hung, nil},
		"stops":       {short, short, "kill -STOP $$", nil},
		"ends":        {long, time.Second, "exit 1", nil},
		"may not":     {long, time.Second, "echo 'strace: attach: ptrace(PTRACE_SEIZE, 1): Operation not permitted' >&2; exit 1", nil},
		"is slow":     {long, time.Second, "sleep 0.3", nil},
		"is missing":  {long, time.Second, "true", func(t *testing.T, h *harness.Host, _ *harness.Daemon) { remove(t, filepath.Join(h.Dir, "strace")) }},
		"no evidence": {long, time.Second, "true", func(t *testing.T, _ *harness.Host, d *harness.Daemon) { rename(t, d.Evidence) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newFreezer(t)
			d := freeze(h, frozen(c.deadline), c.script)
			if c.prepare != nil {
				c.prepare(t, h, d)
			}
			all, uids := newcomers(h, 2)
			began := sends(all)
			for _, s := range all {
				s.Reply()
			}
			if took := time.Since(began); took > c.within+slack {
				t.Errorf("the senders stood still for %v, want %v at most", took, c.within)
			}
			if name != "is slow" {
				harness.Free(t, all[0].Process, all[1].Process)
			}
			nothingLeft(t, h, d, uids...)
		})
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func rename(t *testing.T, path string) {
	t.Helper()
	if err := os.Rename(path, path+".moved"); err != nil {
		t.Fatal(err)
	}
}

// eu-stack hangs: the sender goes on at the deadline at the latest, and is traced all the same.
func TestFrozenWithStuckStack(t *testing.T) {
	t.Parallel()
	const deadline = time.Second
	h := newFreezer(t)
	h.Write("eu-stack", "#!/bin/sh\nexec sleep 60\n")
	d := freeze(h, frozen(deadline), "true")
	all, uids := newcomers(h, 2)
	began := sends(all)
	for _, s := range all {
		s.Reply()
		harness.Traced(t, s.Process)
	}
	if took := time.Since(began); took > deadline+slack {
		t.Errorf("the senders stood still for %v, want %v at most", took, deadline)
	}
	nothingLeft(t, h, d, uids...)
}

// The disk of the evidence is full.
func TestFrozenDiskFull(t *testing.T) {
	t.Parallel()
	h := newFreezer(t)
	dir := filepath.Join(h.SmallDisk(8<<20), "evidence")
	d := h.HuntWith(h.ConfigureIn(dir, frozen(4*time.Second)+"evidence: {dir: "+dir+", min_free: 0B}\n"), dir)
	h.Fill(filepath.Join(filepath.Dir(dir), "full"))
	all, uids := newcomers(h, 3)
	began := sends(all)
	for _, s := range all {
		s.Reply()
	}
	if took := time.Since(began); took > time.Second+slack {
		t.Errorf("the senders stood still for %v", took)
	}
	d.Stop()
	h.Unharmed(uids...)
}
