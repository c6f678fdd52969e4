package gate

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"culprit/internal/proc"
)

// Where programs are stopped by SIGSTOP, somebody must let them go on. That is the
// gate: when told to, at their deadline, and when it ends. Should it be killed, its
// keeper does. Should both be killed at once, a list in a file remains, by which the
// next keeper does.

// stoppedFile lists the processes that were stopped since the boot, a line each.
const stoppedFile = "/run/culprit/stopped"

// openStopped opens the list for appending, and lets go what an earlier gate left.
func openStopped(path string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("keep a list of stopped processes: %w", err)
	}
	if err := sweep(path); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY|os.O_APPEND|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("keep a list of stopped processes: %w", err)
	}
	return f, nil
}

// sweep lets the processes of a list go on that are still stopped.
func sweep(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the list of stopped processes: %w", err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if id, ok := proc.ParseID(lines.Text()); ok {
			resume(proc.Default, id)
		}
	}
	return nil
}

// resume lets a process go on that we stopped, if it still is that process.
func resume(fs proc.FS, id proc.ID) {
	if st, err := fs.Stat(id.PID); err == nil && st.ID == id {
		_ = unix.Kill(id.PID, unix.SIGCONT)
	}
}
