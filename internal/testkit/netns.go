// Package testkit lets tests use the real kernel without touching the machine: private network
// and mount namespaces, raw UIDs, a private resolver.
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

// Root skips the test if it lacks the privileges to run. In CI, where the environment has CI
// set, it fails instead: a skipped check is no check.
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

// A Net is a private network namespace of a test, with its loopback device up and a mount
// namespace. Both vanish with their last process.
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

// serve makes the namespaces on a thread of its own and runs calls there. The thread is never
// unlocked, so it ends with the goroutine.
func (n *Net) serve(ready chan<- error) {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		// The first thread cannot end, and /proc/self shows it. While we hold it, another
		// goroutine must take the next thread.
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

// Do calls f on the thread in the namespace and waits for it. Sockets that f opens and commands
// that it starts are in the namespace; goroutines that it starts are not. f must not call
// t.FailNow.
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

// Run runs a command in the namespace and returns its output, both streams.
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

// Must is [Net.Run], but fails the test on an error.
func (n *Net) Must(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := n.Run(name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Bind mounts a file with the given text over path, in the namespace only.
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

// Backends are the two flavours of iptables, both of which everything must support.
var Backends = []string{"nft", "legacy"}

// UseBackend makes the plain names of the iptables commands mean the given backend, in the
// namespace only, by bind mounts over what they link to.
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
