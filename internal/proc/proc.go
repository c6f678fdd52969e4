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
	"time"

	"golang.org/x/sys/unix"
)

// ErrGone says that a process ended before, or while, it was read.
var ErrGone = errors.New("process is gone")

// FS is the mount point of proc, usually "/proc".
type FS string

// Default is the proc file system of this machine.
const Default FS = "/proc"

// ID identifies one process for ever.
type ID struct {
	PID   int
	Start uint64 // in clock ticks since boot, field 22 of /proc/PID/stat
}

// String writes the id as "PID-start", the form of process.entity_id.
func (id ID) String() string { return fmt.Sprintf("%d-%d", id.PID, id.Start) }

// ParseID reads what [ID.String] writes.
func ParseID(s string) (ID, bool) {
	pid, start, _ := strings.Cut(s, "-")
	p, err1 := strconv.Atoi(pid)
	t, err2 := strconv.ParseUint(start, 10, 64)
	return ID{p, t}, err1 == nil && err2 == nil
}

// Stat is the content of /proc/PID/stat.
type Stat struct {
	ID
	Comm  string
	State byte // R, S, D, T, t, Z, X, …
	PPID  int
	Flags uint32 // PF_… of linux/sched.h
}

const pfKthread = 0x00200000

// KernelThread reports whether the process is part of the kernel.
func (s Stat) KernelThread() bool { return s.Flags&pfKthread != 0 }

// Dead reports whether the process has ended, waited for or not.
func (s Stat) Dead() bool { return s.State == 'Z' || s.State == 'X' }

// Status is the content of /proc/PID/status.
type Status struct {
	TGID      int
	TracerPID int // 0 if it is not traced
	UID, GID  IDs
}

// IDs are the user or group ids of a process.
type IDs struct{ Real, Effective, Saved, FS uint32 }

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
	if err != nil {
		return Status{}, err
	}
	s, err := parseStatus(b)
	if err != nil {
		return Status{}, fmt.Errorf("read status of process %d: %w", pid, err)
	}
	return s, nil
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

// ContainerID finds the id of the container in /proc/PID/cgroup: the 64 hexadecimal digits that
// Docker, containerd, CRI-O and Podman put there. It is empty if there is none.
func (fs FS) ContainerID(pid int) string {
	b, err := fs.read(pid, "cgroup")
	if err != nil {
		return ""
	}
	return containerID(b)
}

func containerID(cgroup []byte) string {
	isHex := func(c rune) bool { return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' }
	for word := range bytes.FieldsFuncSeq(cgroup, func(c rune) bool { return !isHex(c) }) {
		if len(word) == 64 {
			return string(word)
		}
	}
	return ""
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

func parseStat(b []byte) (Stat, error) {
	// The name is in parentheses and can hold anything, even ") ".
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 1 || end < open {
		return Stat{}, errors.New("no name in parentheses")
	}
	var s Stat
	fields := strings.Fields(string(b[end+1:]))
	if len(fields) < 20 {
		return Stat{}, fmt.Errorf("%d fields behind the name, want 20", len(fields))
	}
	pid, err1 := strconv.Atoi(string(bytes.TrimSpace(b[:open])))
	ppid, err2 := strconv.Atoi(fields[1])
	flags, err3 := strconv.ParseUint(fields[6], 10, 32)
	start, err4 := strconv.ParseUint(fields[19], 10, 64)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return Stat{}, err
	}
	s.PID, s.Comm, s.State, s.PPID = pid, string(b[open+1:end]), fields[0][0], ppid
	s.Flags, s.Start = uint32(flags), start
	return s, nil
}

func parseStatus(b []byte) (Status, error) {
	var s Status
	var errs []error
	number := func(text string) int {
		n, err := strconv.Atoi(text)
		errs = append(errs, err)
		return n
	}
	ids := func(text string) IDs {
		var n [4]uint32
		fields := strings.Fields(text)
		if len(fields) != len(n) {
			errs = append(errs, fmt.Errorf("%q is not four ids", text))
			return IDs{}
		}
		for i, f := range fields {
			id, err := strconv.ParseUint(f, 10, 32)
			errs = append(errs, err)
			n[i] = uint32(id)
		}
		return IDs{n[0], n[1], n[2], n[3]}
	}
	found := 0
	for line := range strings.Lines(string(b)) {
		key, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		found++
		switch key {
		case "Tgid":
			s.TGID = number(value)
		case "TracerPid":
			s.TracerPID = number(value)
		case "Uid":
			s.UID = ids(value)
		case "Gid":
			s.GID = ids(value)
			if found < 4 {
				errs = append(errs, errors.New("lines are missing"))
			}
			return s, errors.Join(errs...)
		default:
			found--
		}
	}
	return s, errors.New("lines are missing")
}

// ticksPerSecond is USER_HZ, the unit of times in /proc. It is 100 on every architecture that
// Go supports.
const ticksPerSecond = 100

// StartTime turns ticks since boot into a time, exact to 10 ms.
func StartTime(ticks uint64) time.Time {
	return bootTime().Add(time.Duration(ticks) * (time.Second / ticksPerSecond))
}

func bootTime() time.Time {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return time.Time{}
	}
	return time.Now().Add(-time.Duration(ts.Nano()))
}

// Of reports whether the process belongs to the user: by its real UID, or by its effective or
// file system UID. Processes of root's that act for a user for a moment, as sshd does, do not.
func (s Status) Of(uid uint32) bool {
	return s.UID.Real == uid || s.UID.Real != 0 && (s.UID.Effective == uid || s.UID.FS == uid)
}
