package fetch

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// A memory is what we ask the server with, to get a list only if it has changed. It is in an extended attribute of the
// file (xattr(7)): so it is replaced with the file, and gone with it. Where a file system has none, the list is fetched
// each time.
type memory struct{ URL, Tag, Modified string }

const attribute = "user.culprit.fetched"

// recall returns what the file was fetched with, if it came from that URL.
func recall(file, url string) (m memory) {
	value := make([]byte, maxReply)
	n, err := unix.Getxattr(file, attribute, value)
	if err != nil || json.Unmarshal(value[:n], &m) != nil || m.URL != url {
		return memory{}
	}
	return m
}

func remember(file *os.File, m memory) {
	if value, err := json.Marshal(m); err == nil {
		_ = unix.Fsetxattr(int(file.Fd()), attribute, value, 0)
	}
}

// temporary makes a file beside the path, and removes those that others were killed with. Its name begins with a dot: so
// it is in no list of a pattern.
func temporary(path string) (*os.File, error) {
	dir, prefix := filepath.Dir(path), "."+filepath.Base(path)+"."
	all, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range all {
		if left := e.Name(); strings.HasPrefix(left, prefix) && strings.HasSuffix(left, temporarySuffix) {
			remove(filepath.Join(dir, left))
		}
	}
	file, err := os.CreateTemp(dir, prefix+"*"+temporarySuffix)
	if err != nil {
		return nil, err
	}
	return file, unix.Flock(int(file.Fd()), unix.LOCK_EX) // nobody else has it
}

const temporarySuffix = ".tmp"

// remove removes a temporary file that nobody has locked.
func remove(path string) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return
	}
	defer file.Close()
	if unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
		_ = os.Remove(path)
	}
}

// replace puts the file at the path, at once: who opens the path has the whole old list or the whole new one. Those may
// read it who could read the old one; at first that is us alone.
func replace(file *os.File, path string) error {
	if old, err := os.Stat(path); err == nil {
		if err := file.Chmod(old.Mode().Perm()); err != nil {
			return fmt.Errorf("make it readable: %w", err)
		}
	}
	if err := file.Sync(); err != nil {
		return fmt.Errorf("write it: %w", err)
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return fmt.Errorf("replace the list: %w", err)
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("open the directory of the list: %w", err)
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil {
		return fmt.Errorf("write the directory of the list: %w", err)
	}
	return nil
}
