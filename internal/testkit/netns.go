// Package testkit lets tests use the real kernel without touching the machine:
// private network and mount namespaces, raw UIDs, a resolver of their own.
package testkit

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// Root skips the test where it cannot run for want of privileges. In CI, where
// the environment has CI set, it fails instead: a skipped check is no check.
func Root(t testing.TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatal("this test needs root, and CI must run it")
	}
	t.Skip("this test needs root: run it with make test")
}

// A Net is a network namespace of a test's own, with its loopback device up, and
// a mount namespace of its own with it. Both vanish with the last process in them.
type Net struct {
	calls chan func()
}

// NewNet makes a namespace that lasts until the test ends. Needs root.
func NewNet(t testing.TB) *Net {
	t.Helper()
	Root(t)
	n := &Net{calls: make(chan func())}
	ready := make(chan error)
	go n.serve(ready)
	t.Cleanup(func() { close(n.calls) })
	if err := <-ready; err != nil {
		t.Fatal(err)
	}
	return n
}

// serve makes the namespaces on a thread of its own and runs calls on it. The
// thread is never unlocked: it ends with the goroutine.
func (n *Net) serve(ready chan<- error) {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		// The first thread cannot end, and it is the one that /proc/self shows.
		// While we keep it, others have to take the next.
		done := make(chan struct{})
		go func() {
			defer close(done)
			n.serve(ready)
		}()
		<-done
		runtime.UnlockOSThread()
		return
	}
	ready <- enter()
	for call := range n.calls {
		call()
	}
}

func enter() error {
	if err := unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("make namespaces: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		return fmt.Errorf("bring lo up: %w: %s", err, out)
	}
	return nil
}

// Do calls f on the thread that is in the namespace and waits for it. Sockets
// that f opens and commands that it starts are in the namespace; goroutines that
// it starts are not. f must not call t.FailNow.
func (n *Net) Do(f func()) {
	done := make(chan struct{})
	n.calls <- func() {
		defer close(done)
		f()
	}
	<-done
}

// Start starts cmd in the namespace.
func (n *Net) Start(cmd *exec.Cmd) (err error) {
	n.Do(func() { err = cmd.Start() })
	return err
}

// Run runs a command in the namespace and returns what it printed, both streams.
func (n *Net) Run(name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	var out []byte
	var err error
	n.Do(func() { out, err = cmd.CombinedOutput() })
	if err != nil {
		err = fmt.Errorf("%v: %w\n%s", cmd.Args, err, out)
	}
	return string(out), err
}

// Must is [Net.Run] that fails the test on an error.
func (n *Net) Must(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := n.Run(name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Bind puts a file with the given text over path, in the namespace only.
func (n *Net) Bind(t testing.TB, path, text string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), filepath.Base(path))
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	var err error
	n.Do(func() { err = unix.Mount(file, path, "", unix.MS_BIND, "") })
	if err != nil {
		t.Fatalf("bind over %s: %v", path, err)
	}
}

// Backends are the two flavours of iptables that everything must work with.
var Backends = []string{"nft", "legacy"}

// UseBackend makes the plain names of the iptables commands mean the given
// backend, in the namespace only, by binding over what they are links to.
func (n *Net) UseBackend(t testing.TB, backend string) {
	t.Helper()
	multi, err := exec.LookPath("xtables-" + backend + "-multi")
	if err != nil {
		t.Fatal(err)
	}
	other := map[string]string{"nft": "legacy", "legacy": "nft"}[backend]
	target, err := exec.LookPath("xtables-" + other + "-multi")
	if err != nil {
		t.Fatal(errors.Join(err, errors.New("both iptables backends are needed")))
	}
	current, err := filepath.EvalSymlinks(filepath.Join("/usr/sbin", "iptables"))
	if err != nil {
		t.Fatal(err)
	}
	if current == multi {
		return
	}
	n.Do(func() { err = unix.Mount(multi, target, "", unix.MS_BIND, "") })
	if err != nil {
		t.Fatalf("bind %s over %s: %v", multi, target, err)
	}
}
