package directory

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// lockName is the file that the culprit has locked that runs with the evidence. While it
// runs its PID is in it; a culprit that was killed leaves that behind.
const lockName = "lock"

// Lock takes the directory for us until it is closed, however we end. One culprit at a time
// can have it.
func (d *Directory) Lock() error {
	f, err := d.root.OpenFile(lockName, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("lock the evidence directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			pid, _ := Holder(d.Path())
			return fmt.Errorf("lock the evidence directory %s: another culprit is using it (PID %d): stop that one, or give this one another evidence.dir", d.Path(), pid)
		}
		return fmt.Errorf("lock the evidence directory: %w", err)
	}
	d.lock = f
	return nil
}

// NoteRunning notes in the lock, which must be ours, that we run.
func (d *Directory) NoteRunning() error {
	if _, err := d.lock.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0); err != nil {
		return fmt.Errorf("note in the evidence directory that culprit runs: %w", err)
	}
	return nil
}

// NoteEnded takes that back: we end in good order.
func (d *Directory) NoteEnded() error { return d.lock.Truncate(0) }

// Unclean reports whether the culprit that had the lock last did not end in good order, and
// when it began. It is to be asked before NoteRunning.
func (d *Directory) Unclean() (began time.Time, unclean bool) {
	info, err := d.root.Stat(lockName)
	if err != nil || info.Size() == 0 {
		return time.Time{}, false
	}
	return info.ModTime(), true
}

// Holder returns the PID of the culprit that runs with the evidence in dir, or 0. It asks
// /proc/locks (man 5 proc): to try the lock would for a moment keep out a daemon that is
// starting.
func Holder(dir string) (int, error) {
	info, err := os.Lstat(filepath.Join(dir, lockName))
	if err != nil {
		return 0, nil // nobody ever held it
	}
	inode := strconv.FormatUint(info.Sys().(*syscall.Stat_t).Ino, 10)
	f, err := os.Open("/proc/locks")
	if err != nil {
		return 0, fmt.Errorf("ask who has locked the evidence: %w", err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		// "1: FLOCK  ADVISORY  WRITE 812 08:01:4711 0 EOF"
		fields := strings.Fields(lines.Text())
		if len(fields) < 6 || fields[1] != "FLOCK" || fields[3] != "WRITE" || !strings.HasSuffix(fields[5], ":"+inode) {
			continue
		}
		if pid, err := strconv.Atoi(fields[4]); err == nil && hasOpen(pid, info) {
			return pid, nil
		}
	}
	return 0, lines.Err()
}

// hasOpen reports whether a process has a file open. Another file system may have
// the same inode number, and the device in /proc/locks is not always that of stat.
func hasOpen(pid int, file os.FileInfo) bool {
	open, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	return slices.ContainsFunc(open, func(fd string) bool {
		info, err := os.Stat(fd)
		return err == nil && os.SameFile(info, file)
	})
}

// WasKilled reports whether the culprit that wrote the evidence in dir was killed, and none
// has run with it since: what it left running runs no more.
func WasKilled(dir string) bool {
	info, err := os.Stat(filepath.Join(dir, lockName))
	if err != nil || info.Size() == 0 {
		return false
	}
	pid, err := Holder(dir)
	return err == nil && pid == 0
}
