package proc

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

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
	// Threads is how many there are, with the first one if that has ended and others have not.
	Threads int
}

// The flags of a task that matter here (include/linux/sched.h).
const (
	pfExiting = 0x00000004
	pfKthread = 0x00200000
)

// KernelThread reports whether the process is part of the kernel.
func (s Stat) KernelThread() bool { return s.Flags&pfKthread != 0 }

// Dead reports whether the process has ended, waited for or not.
func (s Stat) Dead() bool { return s.Ended() && s.Threads <= 1 }

// Status is the content of /proc/PID/status.
type Status struct {
	TGID      int
	TracerPID int // 0 if it is not traced
	UID, GID  IDs
}

// IDs are the user or group ids of a process.
type IDs struct{ Real, Effective, Saved, FS uint32 }

// Of reports whether the process belongs to the user: by its real UID, or by its effective or
// file system UID. Processes of root's that act for a user for a moment, as sshd does, do not.
func (s Status) Of(uid uint32) bool {
	return s.UID.Real == uid || s.UID.Real != 0 && (s.UID.Effective == uid || s.UID.FS == uid)
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
	threads, err4 := strconv.Atoi(fields[17])
	start, err5 := strconv.ParseUint(fields[19], 10, 64)
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		return Stat{}, err
	}
	s.PID, s.Comm, s.State, s.PPID = pid, string(b[open+1:end]), fields[0][0], ppid
	s.Flags, s.Threads, s.Start = uint32(flags), threads, start
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
