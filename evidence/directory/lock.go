package directory

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// lockName is the file that a running culprit keeps locked. It holds the culprit's PID, which
// stays behind when culprit is killed.
const lockName = "lock"

// LockedError says that another culprit holds the lock of a directory.
type LockedError struct {
	Dir string
	PID int
}

func (e *LockedError) Error() string {
	return fmt.Sprintf("lock the evidence directory %s: another culprit is using it (PID %d): stop that one, or give this one another evidence.dir", e.Dir, e.PID)
}

// Lock locks the directory until it is closed or we end, however we end. It fails with a [LockedError] if
// another culprit holds the lock.
func (d *Directory) Lock() error {
	f, err := d.root.OpenFile(lockName, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("lock the evidence directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			pid, _ := Holder(d.Path())
			return &LockedError{d.Path(), pid}
		}
		return fmt.Errorf("lock the evidence directory: %w", err)
	}
	d.lock = f
	return nil
}

// NoteRunning writes our PID into the lock file, which must be locked.
func (d *Directory) NoteRunning() error {
	if _, err := d.lock.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0); err != nil {
		return fmt.Errorf("note in the evidence directory that culprit runs: %w", err)
	}
	return nil
}

// NoteEnded removes our PID from the lock file: we end in good order.
func (d *Directory) NoteEnded() error { return d.lock.Truncate(0) }

// Unclean reports whether the last culprit that held the lock was killed, and when that one
// began. Ask before NoteRunning.
func (d *Directory) Unclean() (began time.Time, unclean bool) {
	info, err := d.root.Stat(lockName)
	if err != nil || info.Size() == 0 {
		return time.Time{}, false
	}
	return info.ModTime(), true
}

// Holder returns the PID of the culprit that runs with the evidence in dir, or 0. It reads
// /proc/locks (man 5 proc): trying the lock could make a daemon fail that starts just then.
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
		pid, err := strconv.Atoi(fields[4])
		if err != nil {
			continue
		}
		open, err := hasOpen(pid, info)
		if err != nil { // we may not look: believe what the holder wrote into the file
			text, err := os.ReadFile(filepath.Join(dir, lockName))
			open = err == nil && strings.TrimSpace(string(text)) == fields[4]
		}
		if open {
			return pid, nil
		}
	}
	return 0, lines.Err()
}

// hasOpen reports whether a process has a file open. The inode number alone is not enough, as
// another file system may have the same, and the device in /proc/locks can differ from stat's. It fails
// for who has fewer capabilities than the process (PTRACE_MODE_READ in man 2 ptrace).
func hasOpen(pid int, file os.FileInfo) (bool, error) {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	open, err := os.ReadDir(dir)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return false, nil
		}
		return false, err
	}
	var refused error
	for _, fd := range open {
		info, err := os.Stat(filepath.Join(dir, fd.Name()))
		if errors.Is(err, os.ErrPermission) {
			refused = err
		}
		if err == nil && os.SameFile(info, file) {
			return true, nil
		}
	}
	return false, refused
}

// WasKilled reports whether the last culprit that ran with the evidence in dir was killed:
// whatever the catalogue lists as running is not.
func WasKilled(dir string) bool {
	info, err := os.Stat(filepath.Join(dir, lockName))
	if err != nil || info.Size() == 0 {
		return false
	}
	pid, err := Holder(dir)
	return err == nil && pid == 0
}
