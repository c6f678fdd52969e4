package gate

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"culprit/internal/proc"
)

// Where programs are stopped by SIGSTOP, somebody must let them go on. That is the
// gate: when told to, at their deadline, and when it ends. Should it be killed, its
// keeper does. Should both be killed at once, a list in a file remains, by which the
// next gate does, that of another culprit included.

// stoppedDir is where the lists are, one for each gate that lives or was killed.
const stoppedDir = "/run/culprit"

// maxListed is how many lines a list may have before it is emptied, once nobody is
// stopped.
const maxListed = 1000

// A stoppedList lists processes that were stopped, a line each. The gate holds a lock on
// the file for as long as it lives: that tells its list from those that gates left.
type stoppedList struct {
	file  *os.File
	lines int
}

// openStopped makes our list in dir, and lets go what gates left that were killed.
func openStopped(dir string) (*stoppedList, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("keep a list of stopped processes: %w", err)
	}
	// One at a time: between being made and being locked a list looks left.
	turn, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("keep a list of stopped processes: %w", err)
	}
	defer turn.Close()
	if err := unix.Flock(int(turn.Fd()), unix.LOCK_EX); err != nil {
		return nil, fmt.Errorf("keep a list of stopped processes: lock %s: %w", dir, err)
	}
	left, err := filepath.Glob(filepath.Join(dir, "stopped*"))
	if err != nil {
		return nil, err
	}
	for _, path := range left {
		if err := sweep(path); err != nil {
			return nil, err
		}
	}
	path := filepath.Join(dir, fmt.Sprintf("stopped-%d", os.Getpid()))
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("keep a list of stopped processes: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("keep a list of stopped processes: lock %s: %w", path, err)
	}
	return &stoppedList{file: f}, nil
}

// add notes a process that is about to be stopped.
func (l *stoppedList) add(id proc.ID) error {
	l.lines++
	_, err := fmt.Fprintln(l.file, id)
	return err
}

// clear empties a list that has grown long. Call it when nobody is stopped.
func (l *stoppedList) clear() {
	if l.lines >= maxListed && l.file.Truncate(0) == nil {
		l.lines = 0
	}
}

// close removes the list. Call it when nobody is stopped.
func (l *stoppedList) close() {
	_ = os.Remove(l.file.Name())
	_ = l.file.Close()
}

// sweep lets the processes of a list go on that are still stopped, and removes it; not
// that of a gate that lives.
func sweep(path string) error {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("read a list of stopped processes: %w", err)
	}
	defer f.Close()
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return nil
	}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if id, ok := proc.ParseID(lines.Text()); ok {
			resume(proc.Default, id)
		}
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove a list of stopped processes: %w", err)
	}
	return nil
}

// resume lets a process go on that we stopped, if it still is that process.
func resume(fs proc.FS, id proc.ID) {
	if st, err := fs.Stat(id.PID); err == nil && st.ID == id {
		_ = unix.Kill(id.PID, unix.SIGCONT)
	}
}
