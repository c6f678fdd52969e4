// Package stopped lists processes that culprit stopped by SIGSTOP, so that they go on
// whatever happens.
//
// Whoever stops processes lets them go on: when told to, at their deadline, and when it ends. If it
// is killed, its parent does that. If both are killed at once, the list remains in a file, and the
// next one that opens a list lets them go on, even if it belongs to another culprit.
package stopped

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"culprit/internal/proc"
)

// Dir holds the lists, one for each helper that lives or was killed.
const Dir = "/run/culprit"

// MaxListed is how many lines a list may have before it is emptied, which happens once no
// program is stopped.
const MaxListed = 1000

// A List lists stopped processes, one on each line. Its helper holds a lock on the file as long
// as it lives, which tells its list from those of dead helpers.
type List struct {
	file  *os.File
	lines int
}

// Open creates our list in a directory, and resumes the processes of helpers that were killed.
func Open(dir string) (*List, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("keep a list of stopped processes: %w", err)
	}
	turn, err := takeTurn(dir)
	if err != nil {
		return nil, err
	}
	defer turn.Close()
	if err := sweepAll(dir); err != nil {
		return nil, err
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
	return &List{file: f}, nil
}

// Sweep resumes the processes of helpers that were killed. The directory need not exist.
func Sweep(dir string) error {
	turn, err := takeTurn(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer turn.Close()
	return sweepAll(dir)
}

// takeTurn locks a directory until the file is closed. Between its creation and its lock a list
// looks abandoned, so only one at a time may look.
func takeTurn(dir string) (*os.File, error) {
	turn, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("keep a list of stopped processes: %w", err)
	}
	if err := unix.Flock(int(turn.Fd()), unix.LOCK_EX); err != nil {
		turn.Close()
		return nil, fmt.Errorf("keep a list of stopped processes: lock %s: %w", dir, err)
	}
	return turn, nil
}

func sweepAll(dir string) error {
	left, err := filepath.Glob(filepath.Join(dir, "stopped*"))
	if err != nil {
		return err
	}
	for _, path := range left {
		if err := sweep(path); err != nil {
			return err
		}
	}
	return nil
}

// Add lists a process that is about to be stopped, or was a moment ago.
func (l *List) Add(id proc.ID) error {
	l.lines++
	_, err := fmt.Fprintln(l.file, id)
	return err
}

// Remove notes that a listed process has gone on: should somebody else stop it after that, it stays
// stopped.
func (l *List) Remove(id proc.ID) error {
	l.lines++
	_, err := fmt.Fprintln(l.file, gone, id)
	return err
}

// gone comes before the processes that have gone on.
const gone = "gone"

// Clear empties a list that has grown long. Call it when no process is stopped.
func (l *List) Clear() {
	if l.lines >= MaxListed && l.file.Truncate(0) == nil {
		l.lines = 0
	}
}

// Close removes the list. Call it when no process is stopped.
func (l *List) Close() {
	_ = os.Remove(l.file.Name())
	_ = l.file.Close()
}

// sweep resumes the processes of a list that are still stopped, and removes the list. It leaves
// the list of a live helper alone.
func sweep(path string) error {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("read a list of stopped processes: %w", err)
	}
	defer f.Close()
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return nil
	}
	left := map[proc.ID]bool{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		text, hasGone := strings.CutPrefix(lines.Text(), gone+" ")
		if id, ok := proc.ParseID(text); ok {
			left[id] = !hasGone
		}
	}
	for id, is := range left {
		if is {
			Resume(proc.Default, id)
		}
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove a list of stopped processes: %w", err)
	}
	return nil
}

// stops are the signals that stop a process, as a set.
const stops = 1<<(unix.SIGSTOP-1) | 1<<(unix.SIGTSTP-1) | 1<<(unix.SIGTTIN-1) | 1<<(unix.SIGTTOU-1)

// Resume lets a process go on that we stopped, if [MayResume] says so.
func Resume(fs proc.FS, id proc.ID) {
	if MayResume(fs, id) {
		_ = unix.Kill(id.PID, unix.SIGCONT)
	}
}

// MayResume reports whether the PID still is the process's that we stopped. If somebody else has
// stopped it since, their signal waits behind ours, and it is to stay stopped until they let it
// go on.
//
// First the state, then the signals: a signal that waits while the process is not stopped may be
// ours. It may also be while a tracer holds the process; so theirs is not seen then.
func MayResume(fs proc.FS, id proc.ID) bool {
	const isStopped = 'T'
	st, err := fs.Stat(id.PID)
	if err != nil || st.ID != id {
		return false
	}
	waiting, err := fs.Pending(id.PID)
	return err != nil || st.State != isStopped || waiting&stops == 0
}
