// Package proc reads processes from /proc (man 5 proc).
//
// PID and start time together identify a process, because PIDs are reused.
package proc

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrGone says that a process ended before, or while, it was read.
var ErrGone = errors.New("process is gone")

// FS is the mount point of proc, usually "/proc".
type FS string

// Default is the proc file system of this machine.
const Default FS = "/proc"

// PIDs lists the live thread groups, in the order of the directory.
func (fs FS) PIDs() ([]int, error) {
	d, err := os.Open(string(fs))
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	pids := make([]int, 0, len(names))
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// Stat reads /proc/PID/stat.
func (fs FS) Stat(pid int) (Stat, error) {
	b, err := fs.read(pid, "stat")
	if err != nil {
		return Stat{}, err
	}
	s, err := parseStat(b)
	if err != nil {
		return Stat{}, fmt.Errorf("read stat of process %d: %w", pid, err)
	}
	return s, nil
}

// Status reads /proc/PID/status.
func (fs FS) Status(pid int) (Status, error) {
	b, err := fs.read(pid, "status")
	if err == nil && bytes.Contains(b, []byte("\nState:\tZ")) {
		b, err = fs.read(fs.Lead(pid), "status")
	}
	if err != nil {
		return Status{}, err
	}
	s, err := parseStatus(b)
	if err != nil {
		return Status{}, fmt.Errorf("read status of process %d: %w", pid, err)
	}
	return s, nil
}

// Pending returns the signals that wait for the process, as a set: bit n-1 is signal n (ShdPnd in
// man 5 proc_pid_status).
func (fs FS) Pending(pid int) (uint64, error) {
	b, err := fs.read(pid, "status")
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(b), "\nShdPnd:")
	line, _, _ := strings.Cut(rest, "\n")
	set, err := strconv.ParseUint(strings.TrimSpace(line), 16, 64)
	if err != nil {
		return 0, fmt.Errorf("read the pending signals of process %d: %w", pid, err)
	}
	return set, nil
}

// Ran returns how long the first thread of a process has had a processor, in nanoseconds (Documentation/scheduler/sched-stats.rst). Kernels
// without CONFIG_SCHED_INFO do not say.
func (fs FS) Ran(pid int) (uint64, error) {
	b, err := fs.read(pid, "schedstat")
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(string(b), " ")
	ran, err := strconv.ParseUint(first, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read how long process %d ran: %w", pid, err)
	}
	return ran, nil
}

// Owner returns the owner of /proc/PID, which is the effective UID (task_dump_owner in
// fs/proc/base.c). It costs a tenth of [FS.Status].
func (fs FS) Owner(pid int) (uint32, error) {
	var st unix.Stat_t
	if err := unix.Stat(fs.path(pid, ""), &st); err != nil {
		return 0, readError(pid, "owner", err)
	}
	return st.Uid, nil
}

// Args reads the command line. A process can write anything there; kernel threads and zombies
// have none.
func (fs FS) Args(pid int) ([]string, error) {
	b, err := fs.read(pid, "cmdline")
	if err == nil && len(b) == 0 {
		if tid := fs.Lead(pid); tid != pid {
			b, err = fs.read(tid, "cmdline")
		}
	}
	if err != nil || len(b) == 0 {
		return nil, err
	}
	return strings.Split(strings.TrimRight(string(b), "\x00"), "\x00"), nil
}

// Executable reads the path of the program, as seen in its own mount namespace.
func (fs FS) Executable(pid int) (string, error) { return fs.link(pid, "exe") }

// WorkingDirectory reads the current directory.
func (fs FS) WorkingDirectory(pid int) (string, error) { return fs.link(pid, "cwd") }

// HoldsSocket reports whether a descriptor of the process is the socket with that inode.
func (fs FS) HoldsSocket(pid int, inode uint64) bool {
	dir := fs.path(pid, "fd")
	d, err := os.Open(dir)
	if err != nil {
		return false
	}
	defer d.Close()
	want := "socket:[" + strconv.FormatUint(inode, 10) + "]"
	buf := make([]byte, len(want)+1)
	for {
		names, err := d.Readdirnames(256)
		for _, name := range names {
			n, err := unix.Readlinkat(int(d.Fd()), name, buf)
			if err == nil && string(buf[:n]) == want {
				return true
			}
		}
		if err != nil {
			return false
		}
	}
}

// Cgroup returns the text of /proc/PID/cgroup: the cgroups of the process (man 7 cgroups).
func (fs FS) Cgroup(pid int) (string, error) {
	b, err := fs.read(pid, "cgroup")
	return string(b), err
}

func (fs FS) path(pid int, name string) string {
	return filepath.Join(string(fs), strconv.Itoa(pid), name)
}

// maxRead bounds how much of a file of a process is read, in bytes. Only command lines can be
// longer, and no process may make us hold more.
const maxRead = 16 << 10

func (fs FS) read(pid int, name string) ([]byte, error) {
	fd, err := unix.Open(fs.path(pid, name), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, readError(pid, name, err)
	}
	defer unix.Close(fd)
	buf := make([]byte, 2048)
	total := 0
	for total < maxRead {
		if total == len(buf) {
			buf = append(buf, make([]byte, len(buf))...)
		}
		n, err := unix.Read(fd, buf[total:])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, readError(pid, name, err)
		}
		if n == 0 {
			break
		}
		total += n
	}
	return buf[:total], nil
}

func (fs FS) link(pid int, name string) (string, error) {
	s, err := os.Readlink(fs.path(pid, name))
	if err != nil {
		if tid := fs.Lead(pid); tid != pid {
			s, err = os.Readlink(fs.path(tid, name))
		}
	}
	if err != nil {
		return "", readError(pid, name, err)
	}
	return s, nil
}

func readError(pid int, name string, err error) error {
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("read %s of process %d: %w", name, pid, ErrGone)
	}
	return fmt.Errorf("read %s of process %d: %w", name, pid, err)
}
