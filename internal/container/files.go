package container

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Bounds of what is read. A container cannot write to these files, but a runtime copies names, labels
// and environments into them that a user chose.
const (
	maxFile    = 1 << 20  // of one container, in bytes
	maxList    = 16 << 20 // of all containers; about 1 KiB each
	maxEntries = 64       // of a directory
)

// files are those of the host, or of a user's home, under one directory. Links are followed within it:
// /var/lib/docker often is one.
type files struct {
	dir *os.File
	// owner is whom files must belong to, besides root; anybody: whoever.
	owner uint32
	// maxList bounds a list of all containers, in bytes.
	maxList int64
	// links says whether links may be followed. A user could lead us by one to a file that is not his.
	links bool
}

const anybody = ^uint32(0)

func openFiles(dir string, owner uint32) (*files, error) {
	d, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return &files{d, owner, maxList, owner == 0 || owner == anybody}, nil
}

func (f *files) close() { f.dir.Close() }

// at opens what has the name, and follows no link out of the directory.
func (f *files) at(name string, flags uint64) (fd int, err error) {
	how := unix.OpenHow{Flags: unix.O_CLOEXEC | flags, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	if !f.links {
		how.Resolve = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS
	}
	fd, err = unix.Openat2(int(f.dir.Fd()), name, &how)
	if err != nil {
		return -1, &os.PathError{Op: "openat2", Path: name, Err: err}
	}
	return fd, nil
}

// open opens a file or directory that nobody else can change. Whoever owns the directory can have put a
// device there, which must not even be opened.
func (f *files) open(name string) (*os.File, error) {
	at, err := f.at(name, unix.O_PATH)
	if err != nil {
		return nil, err
	}
	defer unix.Close(at)
	var st unix.Stat_t
	if err := unix.Fstat(at, &st); err != nil {
		return nil, &os.PathError{Op: "fstat", Path: name, Err: err}
	}
	switch kind := st.Mode & unix.S_IFMT; {
	case kind != unix.S_IFREG && kind != unix.S_IFDIR:
		return nil, fmt.Errorf("%s is no plain file", name)
	case f.owner != anybody && (st.Uid != 0 && st.Uid != f.owner || st.Mode&0o002 != 0):
		return nil, fmt.Errorf("%s can be changed by others than user %d", name, f.owner)
	}
	file, err := os.OpenFile(fmt.Sprint("/proc/self/fd/", at), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	return file, nil
}

// read reads a file of at most so many bytes.
func (f *files) read(name string, most int64) ([]byte, error) {
	file, err := f.open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, most+1))
	if err == nil && int64(len(b)) > most {
		err = fmt.Errorf("%s is larger than %d bytes", name, most)
	}
	return b, err
}

// decode reads a file of JSON.
func (f *files) decode(name string, most int64, into any) error {
	b, err := f.read(name, most)
	if err == nil {
		err = json.Unmarshal(b, into)
	}
	return err
}

// has reports whether there is such a directory, whoever owns it.
func (f *files) has(name string) bool {
	fd, err := f.at(name, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return false
	}
	unix.Close(fd)
	return true
}

// list returns names in a directory, in no order.
func (f *files) list(name string) []string {
	dir, err := f.open(name)
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(maxEntries)
	return names
}
