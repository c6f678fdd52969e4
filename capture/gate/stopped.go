package gate

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"culprit/internal/proc"
)

// Somebody must resume programs that are stopped by SIGSTOP. The gate does: when told to, at
// their deadline, and when it ends. If the gate is killed, its keeper does. If both are killed
// at once, a list in a file remains, and the next gate resumes the programs, even if it belongs
// to another culprit.

// stoppedDir holds the lists, one for each gate that lives or was killed.
const stoppedDir = "/run/culprit"

// maxListed is how many lines a list may have before it is emptied, which happens once no
// program is stopped.
const maxListed = 1000

// A stoppedList lists stopped processes, one on each line. The gate holds a lock on the file as
// long as it lives, which tells its list from those of dead gates.
type stoppedList struct {
	file  *os.File
	lines int
}

// openStopped creates our list in dir, and resumes the programs of gates that were killed.
func openStopped(dir string) (*stoppedList, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("keep a list of stopped processes: %w", err)
	}
	// One gate at a time: between its creation and its lock a list looks abandoned.
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

// add lists a process that is about to be stopped.
func (l *stoppedList) add(id proc.ID) error {
	l.lines++
	_, err := fmt.Fprintln(l.file, id)
	return err
}

// clear empties a list that has grown long. Call it when no process is stopped.
func (l *stoppedList) clear() {
	if l.lines >= maxListed && l.file.Truncate(0) == nil {
		l.lines = 0
	}
}

// close removes the list. Call it when no process is stopped.
func (l *stoppedList) close() {
	_ = os.Remove(l.file.Name())
	_ = l.file.Close()
}

// sweep resumes the processes of a list that are still stopped, and removes the list. It leaves
// the list of a live gate alone.
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

// resume lets a process go on that we stopped, if the PID still is that process's.
func resume(fs proc.FS, id proc.ID) {
	if st, err := fs.Stat(id.PID); err == nil && st.ID == id {
		_ = unix.Kill(id.PID, unix.SIGCONT)
	}
}
