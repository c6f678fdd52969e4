// Package fanotify finds out what this kernel's fanotify can do for the gate.
package fanotify

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Open opens a fanotify descriptor that can ask for permission events (man 2 fanotify_init:
// FAN_CLASS_CONTENT). It needs CAP_SYS_ADMIN.
func Open() (int, error) {
	fd, err := unix.FanotifyInit(unix.FAN_CLASS_CONTENT|unix.FAN_CLOEXEC|unix.FAN_NONBLOCK|unix.FAN_UNLIMITED_QUEUE|unix.FAN_UNLIMITED_MARKS,
		unix.O_RDONLY|unix.O_LARGEFILE|unix.O_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("open fanotify: %w: it needs CONFIG_FANOTIFY in the kernel, and CAP_SYS_ADMIN", err)
	}
	return fd, nil
}

// Probe tests whether an execve can be held. For an instant it asks for the events of our own
// executable, which nobody is starting at that moment.
func Probe() error {
	fd, err := Open()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if err := unix.FanotifyMark(fd, unix.FAN_MARK_ADD, unix.FAN_OPEN_EXEC_PERM, unix.AT_FDCWD, self); err != nil {
		return fmt.Errorf("ask for FAN_OPEN_EXEC_PERM: %w: it needs Linux 5.0 with CONFIG_FANOTIFY_ACCESS_PERMISSIONS", err)
	}
	return nil
}

// AttachInExecve reports whether ptrace can attach to a process while its execve is held. It
// can since Linux 6.8, which opens the program before it takes the process's cred_guard_mutex.
func AttachInExecve() bool {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return false
	}
	return attachInExecve(unix.ByteSliceToString(u.Release[:]))
}

func attachInExecve(release string) bool {
	var major, minor int
	if n, _ := fmt.Sscanf(release, "%d.%d", &major, &minor); n != 2 {
		return false
	}
	return major > 6 || major == 6 && minor >= 8
}
