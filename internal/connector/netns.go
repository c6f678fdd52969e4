package connector

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// initialNet is the network namespace of kthreadd, PID 2, the parent of all kernel threads,
// which never leaves the initial namespaces. PID 1 is an ordinary process: it may leave them,
// and on some machines not even root may look at its namespaces.
const initialNet = "/proc/2/ns/net"

// inInitialNet calls f in the initial network namespace.
func inInitialNet(f func() error) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		restored, err := enterInitialNet(f)
		if restored {
			runtime.UnlockOSThread()
		} // Otherwise the thread ends with this goroutine, and harms nobody.
		result <- err
	}()
	return <-result
}

// enterInitialNet does that on the calling thread, and reports whether the thread is back in
// its own namespace.
func enterInitialNet(f func() error) (restored bool, err error) {
	// Not /proc/self, which is the first thread of the process.
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return true, err
	}
	defer own.Close()
	initial, err := os.Open(initialNet)
	if errors.Is(err, os.ErrNotExist) {
		return true, fmt.Errorf("find initial network namespace: not the initial PID namespace: %w", err)
	}
	if err != nil {
		return true, fmt.Errorf("find initial network namespace (needs CAP_SYS_PTRACE): %w", err)
	}
	defer initial.Close()
	same, err := sameFile(own, initial)
	if err != nil {
		return true, err
	}
	if same {
		return true, f()
	}
	if err := unix.Setns(int(initial.Fd()), unix.CLONE_NEWNET); err != nil {
		return true, fmt.Errorf("enter initial network namespace (needs CAP_SYS_ADMIN): %w", err)
	}
	err = f()
	return unix.Setns(int(own.Fd()), unix.CLONE_NEWNET) == nil, err
}

func sameFile(a, b *os.File) (bool, error) {
	x, err := a.Stat()
	if err != nil {
		return false, err
	}
	y, err := b.Stat()
	if err != nil {
		return false, err
	}
	return os.SameFile(x, y), nil
}
