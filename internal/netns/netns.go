// Package netns tells what the kernel knows of network namespaces: which one a process is in, who made it, and of
// which ones a process has network devices.
package netns

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"culprit/internal/proc"
)

// A Namespace is a network namespace.
type Namespace struct {
	Inode uint32 // as /proc/PID/ns/net has it (man 7 namespaces)
	// Owner is the UID, on the host, of who made the user namespace that the network namespace belongs to: he has power
	// over all that is in it. It is 0 for the machine's own user namespace.
	Owner uint32
}

// Of returns the network namespace of a process.
func Of(fs proc.FS, pid int) (Namespace, error) {
	f, err := os.Open(filepath.Join(string(fs), strconv.Itoa(pid), "ns/net"))
	if err != nil {
		return Namespace{}, fmt.Errorf("open the network namespace of process %d: %w", pid, err)
	}
	defer f.Close()
	return at(int(f.Fd()))
}

// Inode returns that of the network namespace of a process, at less cost.
func Inode(fs proc.FS, pid int) (uint32, error) {
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(string(fs), strconv.Itoa(pid), "ns/net"), &st); err != nil {
		return 0, fmt.Errorf("look at the network namespace of process %d: %w", pid, err)
	}
	return uint32(st.Ino), nil
}

// at returns the namespace that a descriptor stands for (man 2 NS_GET_OWNER_UID).
func at(fd int) (n Namespace, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return n, fmt.Errorf("look at a network namespace: %w", err)
	}
	user, err := unix.IoctlRetInt(fd, unix.NS_GET_USERNS)
	if err != nil {
		return n, fmt.Errorf("ask for the user namespace of a network namespace: %w", err)
	}
	defer unix.Close(user)
	owner, err := unix.IoctlGetUint32(user, unix.NS_GET_OWNER_UID)
	if err != nil {
		return n, fmt.Errorf("ask for the owner of a user namespace: %w", err)
	}
	return Namespace{uint32(st.Ino), owner}, nil
}

const (
	// maxFDs is how many descriptors of a process are looked at, those with the lowest numbers. Programs open their
	// device before their many connections.
	maxFDs = 128
	// maxServed bounds the namespaces of one process.
	maxServed = 4
)

// Served returns the network namespaces other than its own of which a process holds a TUN or TAP device: whatever
// leaves through that device goes to this process, which may send it on, as pasta and slirp4netns do. It says so by the
// device, whatever the process calls itself, and only who may administrate a namespace can make one in it.
func Served(fs proc.FS, pid int) ([]Namespace, error) {
	dir, err := os.Open(filepath.Join(string(fs), strconv.Itoa(pid), "fd"))
	if err != nil {
		return nil, fmt.Errorf("look at the descriptors of process %d: %w", pid, err)
	}
	names, _ := dir.Readdirnames(maxFDs) // in the order of their numbers (proc_readfd_common in fs/proc/fd.c)
	dir.Close()
	var taps []int
	for _, name := range names {
		if isTap(fs, pid, name) {
			fd, _ := strconv.Atoi(name)
			taps = append(taps, fd)
		}
	}
	if len(taps) == 0 {
		return nil, nil
	}
	process, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, fmt.Errorf("open process %d: %w", pid, err)
	}
	defer unix.Close(process)
	own, err := Of(fs, pid)
	if err != nil {
		return nil, err
	}
	var all []Namespace
	var errs []error
	for _, fd := range taps {
		n, err := ofTap(process, fd)
		switch {
		case err != nil:
			errs = append(errs, err)
		case n.Inode != own.Inode && !slices.Contains(all, n) && len(all) < maxServed:
			all = append(all, n)
		}
	}
	return all, errors.Join(errs...)
}

// isTap reports whether a descriptor is a TUN or TAP device. It asks no file system, which may never answer
// (AT_STATX_DONT_SYNC in man 2 statx).
func isTap(fs proc.FS, pid int, name string) bool {
	const major, minor = 10, 200 // MISC_MAJOR, TUN_MINOR in linux/miscdevice.h
	base := filepath.Join(string(fs), strconv.Itoa(pid))
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, base+"/fd/"+name, unix.AT_STATX_DONT_SYNC, unix.STATX_TYPE, &st)
	if err != nil || st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev_major != major || st.Rdev_minor != minor {
		return false
	}
	info, err := os.ReadFile(base + "/fdinfo/" + name)
	return err == nil && strings.Contains(string(info), "\niff:\t") // tun_chr_show_fdinfo in drivers/net/tun.c
}

// ofTap returns the namespace of the device that a descriptor of a process stands for.
func ofTap(process, fd int) (Namespace, error) {
	ours, err := unix.PidfdGetfd(process, fd, 0)
	if err != nil {
		return Namespace{}, fmt.Errorf("copy a descriptor of a process: %w", err)
	}
	defer unix.Close(ours)
	ns, err := unix.IoctlRetInt(ours, unix.TUNGETDEVNETNS) // since Linux 5.2
	if err != nil {
		return Namespace{}, fmt.Errorf("ask for the network namespace of a TUN device: %w", err)
	}
	defer unix.Close(ns)
	return at(ns)
}
