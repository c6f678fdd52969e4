package snapshot

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"culprit/internal/event"
	"culprit/internal/proc"
)

// executable holds the file of a program: even one that has no name any more, or never had one,
// can be read as long as we have it. It is opened without reading (O_PATH in man 2 open), which
// no file system can make us wait for.
type executable struct {
	file *os.File
	node
	mayHang string // the type of a file system on which reading may never end; "": it will end
}

// notPlaced is in mayHang as long as nobody knows.
const notPlaced = "unknown"

// node is what is known of a file or directory without asking its file system.
type node struct {
	mount int // the id of its mount
	stat  unix.Statx_t
}

// hold opens the executable of a process.
func (t *Taker) hold(pid int) (*executable, error) {
	file, err := os.OpenFile(t.name(pid, "exe"), unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	n, err := look(int(file.Fd()))
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("look at the executable: %w", err)
	}
	return &executable{file: file, node: n, mayHang: notPlaced}, nil
}

func (e *executable) close() { e.file.Close() }

// look looks at a file that is open. A file system that a user serves is not asked: what the
// kernel knows will do (AT_STATX_DONT_SYNC in man 2 statx).
func look(fd int) (n node, err error) {
	err = unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC|unix.AT_NO_AUTOMOUNT, unix.STATX_BASIC_STATS|unix.STATX_MNT_ID, &n.stat)
	if err != nil {
		return n, err
	}
	if n.stat.Mask&unix.STATX_MNT_ID != 0 {
		n.mount = int(n.stat.Mnt_id)
		return n, nil
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", fd)) // before Linux 5.8
	if err != nil {
		return n, err
	}
	_, rest, _ := strings.Cut(string(text), "mnt_id:")
	id, _, _ := strings.Cut(rest, "\n")
	n.mount, err = strconv.Atoi(strings.TrimSpace(id))
	return n, err
}

// same reports whether both are the same file.
func (n node) same(o node) bool {
	return n.stat.Ino == o.stat.Ino && n.stat.Dev_major == o.stat.Dev_major && n.stat.Dev_minor == o.stat.Dev_minor
}

// replaceable reports whether a user other than root can write to the file, or replace what is
// in the directory. Who has a sticky directory's entry is looked at by itself. Access control
// lists show in the bits of the group (man 5 acl).
func (n node) replaceable() bool {
	directory, sticky := n.stat.Mode&unix.S_IFMT == unix.S_IFDIR, n.stat.Mode&unix.S_ISVTX != 0
	return n.stat.Uid != 0 || n.stat.Mode&0o022 != 0 && !(directory && sticky)
}

// place finds out whether the executable may be gone or another one tomorrow.
func (t *Taker) place(pid int, exe *executable) put {
	if exe == nil {
		return func(*event.Snapshot, *sight) {}
	}
	mounts, root := t.mountsOf(pid, exe.mount)
	path, _ := t.FS.Executable(pid)
	why, mayHang := exe.placed(path, root, mounts)
	return func(d *event.Snapshot, _ *sight) {
		exe.mayHang = mayHang
		if why != nil {
			why.Detail = event.Cut(why.Detail, 1024)
			d.Culprit.Replaceable = why
		}
	}
}

// mountsOf returns the mounts of the namespace that a mount is in, ours or the process's, and
// the directory that paths of files on it begin at.
func (t *Taker) mountsOf(pid, mount int) (mounts map[int]proc.Mount, root string) {
	mounts = map[int]proc.Mount{}
	roots := []string{"/", t.name(pid, "root")}
	for i, process := range []string{string(t.FS) + "/self", t.name(pid, "")} {
		text, err := readSome(process + "/mountinfo")
		if err != nil {
			continue
		}
		for _, m := range proc.ParseMounts(text) {
			mounts[m.ID] = m
		}
		if _, here := mounts[mount]; here {
			return mounts, roots[i]
		}
	}
	return mounts, roots[1]
}

// placed says why an executable may be gone or another one tomorrow, or returns nil.
func (e *executable) placed(path, root string, mounts map[int]proc.Mount) (why *event.Replaceable, mayHang string) {
	on, mounted := mounts[e.mount]
	switch {
	case on.MayHang():
		return &event.Replaceable{Code: event.ReplaceableFileSystem, Detail: on.Kind}, on.Kind
	case e.stat.Nlink == 0 && !mounted && strings.HasPrefix(path, "/memfd:"):
		return &event.Replaceable{Code: event.ReplaceableMemory}, ""
	case e.stat.Nlink == 0:
		return &event.Replaceable{Code: event.ReplaceableDeleted}, ""
	case e.replaceable():
		return &event.Replaceable{Code: event.ReplaceableWritable, Detail: path}, ""
	}
	return e.above(path, root, mounts), ""
}

// above looks at the directories above the executable, and that the path leads to it.
func (e *executable) above(path, root string, mounts map[int]proc.Mount) *event.Replaceable {
	unknown := func(err error) *event.Replaceable {
		return &event.Replaceable{Code: event.ReplaceableUnknown, Detail: err.Error()}
	}
	at, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return unknown(err)
	}
	defer func() { unix.Close(at) }()
	names := strings.Split(strings.Trim(path, "/"), "/")
	for i := 0; ; i++ {
		n, err := look(at)
		switch m := mounts[n.mount]; {
		case err != nil:
			return unknown(err)
		case i == len(names):
			if !n.same(e.node) {
				return unknown(errors.New("its path leads to another file"))
			}
			return nil
		case m.MayHang(): // and nothing below it may be looked up
			return &event.Replaceable{Code: event.ReplaceableFileSystem, Detail: m.Kind}
		case n.replaceable():
			return &event.Replaceable{Code: event.ReplaceableWritable, Detail: "/" + strings.Join(names[:i], "/")}
		}
		next, err := unix.Openat(at, names[i], unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return unknown(err)
		}
		unix.Close(at)
		at = next
	}
}
