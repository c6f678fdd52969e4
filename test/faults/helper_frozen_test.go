package faults

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"culprit/test/harness"
)

// lease is how long a dead or hung daemon may go on stopping processes.
const lease = 2 * time.Second

// frozen is a configuration whose captures take all that comes. A process is stopped at its packet
// for a deadline that tests can tell from all else.
func frozen(deadline time.Duration) string {
	return strings.Replace(harness.Gated, "5s", deadline.String(), 1)
}

// hung is a strace that does not attach.
const hung = "exec sleep 60"

// newFreezer makes a host whose culprits leave their lists and pins to nobody else's.
func newFreezer(t *testing.T) *harness.Host {
	t.Helper()
	h := harness.NewHost(t, "")
	var err error
	h.Do(func() {
		if err = os.MkdirAll("/run/culprit", 0o700); err == nil {
			err = unix.Mount("tmpfs", "/run/culprit", "tmpfs", 0, "mode=0700")
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// freeze starts a daemon whose strace does what the script says before it begins.
func freeze(h *harness.Host, config, script string) *harness.Daemon {
	h.T.Helper()
	path, evidence := h.Configure(config)
	return h.HuntWith(path, evidence, slowStrace(h, script))
}

// left lists what culprits have left in /run/culprit and in the BPF file system, apart from what
// eu-stack loads, which stays.
func left(h *harness.Host) (files []string) {
	h.Do(func() {
		for _, pattern := range []string{"/run/culprit/*", "/sys/fs/bpf/culprit*"} {
			more, _ := filepath.Glob(pattern)
			files = append(files, slices.DeleteFunc(more, func(f string) bool { return f == "/run/culprit/eu-stack" })...)
		}
	})
	return files
}

// nothingLeft stops the daemon, and checks that nothing of it is left.
func nothingLeft(t *testing.T, h *harness.Host, d *harness.Daemon, uids ...uint32) {
	t.Helper()
	d.Stop()
	if files := left(h); len(files) > 0 {
		t.Errorf("culprit left %v", files)
	}
	h.Unharmed(uids...)
}

// newcomers starts senders, each of a user of its own.
func newcomers(h *harness.Host, n int) (all []*harness.Sender, uids []uint32) {
	h.T.Helper()
	for range n {
		uid := harness.NewUID()
		all, uids = append(all, h.Sender(uid)), append(uids, uid)
	}
	return all, uids
}

// sends makes the senders send a first packet each.
func sends(all []*harness.Sender) (began time.Time) {
	began = time.Now()
	for i, s := range all {
		s.Say(fmt.Sprintf("ask first%d.badzone.test 1", i))
	}
	return began
}

// standStill makes the senders send a first packet each, and waits until all stand still.
func standStill(t *testing.T, all ...*harness.Sender) (began time.Time) {
	t.Helper()
	began = sends(all)
	for _, s := range all {
		harness.Eventually(t, "the sender is stopped at its packet", func() error { return isStopped(s.PID) })
	}
	return began
}

// goOn checks that the senders go on, untraced, and within a time.
func goOn(t *testing.T, began time.Time, within time.Duration, all ...*harness.Sender) {
	t.Helper()
	for _, s := range all {
		s.Reply()
		harness.Free(t, s.Process)
	}
	if took := time.Since(began); took > within+slack {
		t.Errorf("the senders stood still for %v, want %v at most", took, within)
	}
}

// slack is what a busy machine may take longer.
const slack = time.Second

// notStopped checks that a first packet stops nobody.
func notStopped(t *testing.T, h *harness.Host, what string) {
	t.Helper()
	s := h.Sender(harness.NewUID())
	s.Say("ask unwatched.badzone.test 1")
	for until := time.Now().Add(300 * time.Millisecond); time.Now().Before(until); time.Sleep(time.Millisecond) {
		if isStopped(s.PID) == nil {
			t.Errorf("%s a sender is stopped", what)
			return
		}
	}
	s.Reply()
}

// stopsAgain waits until another thawer than the old one runs, and senders are stopped again.
func stopsAgain(t *testing.T, d *harness.Daemon, old int) {
	t.Helper()
	harness.Eventually(t, "there is another thawer", func() error {
		if pid := d.Thawer(); pid == 0 || pid == old {
			return errors.New("there is none")
		}
		return nil
	})
	harness.Eventually(t, "senders are stopped again", func() error {
		s := d.Host.Sender(harness.NewUID())
		s.Say("ask again.badzone.test 1")
		defer s.Reply()
		for until := time.Now().Add(200 * time.Millisecond); time.Now().Before(until); time.Sleep(time.Millisecond) {
			if isStopped(s.PID) == nil {
				return nil
			}
		}
		return errors.New("they are not")
	})
}
