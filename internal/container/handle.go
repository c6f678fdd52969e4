package container

import (
	"encoding/binary"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"culprit/internal/event"
)

// OfCgroup describes where the processes of a cgroup run, by its id as BPF programs know it: also for
// a process that has ended, as long as the cgroup is there. It is empty if that is no container, or
// nobody knows. pid is a process in it, which is needed for names of containers in containers; 0: none is known.
func (c *Containers) OfCgroup(id uint64, pid int) event.Place {
	if c == nil || id == 0 {
		return event.Place{}
	}
	path, err := c.cgroups.path(id)
	if err != nil {
		return event.Place{}
	}
	return c.findBy("0::"+path+"\n", pid).place
}

// fileIDKernfs is the type of a file handle that is the id of a cgroup (include/linux/exportfs.h,
// Linux 5.5).
const fileIDKernfs = 0xfe

// path returns the path of a cgroup of v2.
func (m mounts) path(id uint64) (string, error) {
	point, ok := m[""]
	if !ok {
		return "", os.ErrNotExist
	}
	mount, err := unix.Open(point, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", &os.PathError{Op: "open", Path: point, Err: err}
	}
	defer unix.Close(mount)
	handle := unix.NewFileHandle(fileIDKernfs, binary.NativeEndian.AppendUint64(nil, id))
	fd, err := unix.OpenByHandleAt(mount, handle, unix.O_PATH|unix.O_CLOEXEC)
	if err != nil {
		return "", os.NewSyscallError("open_by_handle_at", err)
	}
	defer unix.Close(fd)
	path, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
	if err != nil {
		return "", err
	}
	return strings.TrimPrefix(path, point), nil
}
