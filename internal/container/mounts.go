package container

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"culprit/internal/proc"
)

// mounts says where the hierarchies of cgroups are mounted.
type mounts map[hierarchy]string

// findMounts reads the mounts of this process. The mount points of cgroup v1 are named after their
// controllers, as in /proc/PID/cgroup; a symbolic link has the other order of "cpu,cpuacct".
func findMounts(fs proc.FS) mounts {
	m := mounts{}
	text, err := os.ReadFile(filepath.Join(string(fs), "self/mountinfo"))
	if err != nil {
		return m
	}
	for _, mount := range proc.ParseMounts(text) {
		if mount.Root != "/" { // a part, as in a container
			continue
		}
		switch mount.Kind {
		case "cgroup2":
			if point, ok := m[""]; !ok || !isUnified(point) { // another one may be mounted over it
				m[""] = mount.Point
			}
		case "cgroup":
			name := hierarchy(filepath.Base(mount.Point))
			if name == "systemd" {
				name = "name=systemd"
			}
			m[name] = mount.Point
		}
	}
	return m
}

// isUnified reports whether cgroup v2 is at a path.
func isUnified(path string) bool {
	var fs unix.Statfs_t
	return unix.Statfs(path, &fs) == nil && fs.Type == unix.CGROUP2_SUPER_MAGIC
}

// A maker says who can have given a cgroup its name.
type maker uint8

const (
	unknownMaker maker = iota // the cgroup does not show from here
	onlyRoot
	anotherUser
)

// maker tells who can have given the cgroup its name: whoever may write to the directory around it. The
// cgroup itself often belongs to the root of its container.
func (m mounts) maker(c claim) maker {
	point, ok := m[c.line]
	// A path that begins with ".." is outside of our own cgroup namespace (man 7 cgroup_namespaces).
	if !ok || slices.Contains(strings.Split(c.path, "/"), "..") {
		return unknownMaker
	}
	var st unix.Stat_t
	if err := unix.Lstat(filepath.Join(point, filepath.Dir(c.path)), &st); err != nil {
		return unknownMaker
	}
	if st.Uid != 0 || st.Mode&0o002 != 0 || st.Gid != 0 && st.Mode&0o020 != 0 {
		return anotherUser
	}
	return onlyRoot
}

// hostRoots returns where the files of the host are: here, and where PID 1 sees them, if culprit runs
// in a container itself.
func hostRoots() []string {
	var here, host unix.Stat_t
	const of1 = "/proc/1/root"
	if unix.Stat("/", &here) == nil && unix.Stat(of1, &host) == nil && (here.Dev != host.Dev || here.Ino != host.Ino) {
		return []string{"/", of1}
	}
	return []string{"/"}
}
