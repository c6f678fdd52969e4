package evidence

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

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

// wasKilled reports whether the culprit that wrote the evidence in dir was killed, and none
// has run with it since: what it left running runs no more.
func wasKilled(dir string) bool {
	info, err := os.Stat(filepath.Join(dir, lockName))
	if err != nil || info.Size() == 0 {
		return false
	}
	pid, err := Holder(dir)
	return err == nil && pid == 0
}
