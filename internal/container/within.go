package container

import (
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Within returns the ids of the containers that a process is in for certain, the outermost first; none
// if it is on the host. ok is false if the process is gone.
//
// Only names of cgroups count that root gave: those at which one arrives from the root of the hierarchy
// through directories of root's. Below a directory of another user, that user can make any, also
// with the id of somebody else's container: what is there is where that directory is. So nobody gets
// out of a container, or into one, by making cgroups.
func (c *Containers) Within(pid int) (ids []string, ok bool) {
	if c == nil {
		return nil, true
	}
	text, err := c.fs.Cgroup(pid)
	if err != nil {
		return nil, false
	}
	if ids = c.within(text); len(ids) > 0 {
		return ids, true
	}
	// A thread that has ended is in no cgroup of v1 any more (proc_cgroup_show in kernel/cgroup/cgroup.c).
	st, err := c.fs.Stat(pid)
	if err != nil || st.Dead() {
		return nil, false
	}
	if st.Ended() {
		if text, err = c.fs.Cgroup(c.fs.Lead(pid)); err != nil {
			return nil, false
		}
		ids = c.within(text)
	}
	return ids, true
}

// WithinCgroup is Within for a process that has ended, by the id of its cgroup of v2. Where there are hierarchies of
// v1 that tells only if it is in a container, as that may be one of v1 alone.
func (c *Containers) WithinCgroup(id uint64) (ids []string, ok bool) {
	if c == nil || id == 0 {
		return nil, false
	}
	path, err := c.cgroups.path(id)
	if err != nil {
		return nil, false
	}
	ids = c.within("0::" + path + "\n")
	return ids, len(ids) > 0 || len(c.cgroups) == 1
}

// within finds containers in the text of /proc/PID/cgroup.
func (c *Containers) within(text string) []string {
	for line := range strings.Lines(text) {
		_, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		controllers, path, _ := strings.Cut(rest, ":")
		// What is further inside must not say anything about it.
		isKnown := func(path, id string) bool {
			return c.findBy("0:"+controllers+":"+path+"\n", 0).identity == Identity{id, true}
		}
		if ids := c.cgroups.within(path, hierarchy(controllers), isKnown); len(ids) > 0 {
			return ids // other hierarchies say the same
		}
	}
	return nil
}

// within walks a path from the root of its hierarchy as far as only root can have made it. isKnown is
// asked about those cgroups whose name any directory could have.
func (m mounts) within(path string, in hierarchy, isKnown func(path, id string) bool) (ids []string) {
	dir, ok := m[in]
	if !ok {
		return nil
	}
	names := strings.Split(strings.Trim(path, "/"), "/")
	claims, before := map[int]claim{}, ""
	for i, name := range names {
		c, ok := claimOf(before, name, names[i+1:])
		if !ok && i == 1 {
			c, ok = inNamespace(before, name) // also of what is further inside
		}
		if ok {
			claims[i] = c
		}
		before = name
	}
	for i := 0; len(claims) > 0; i++ { // most paths are the host's
		// A path that begins with ".." is outside of our own cgroup namespace (man 7 cgroup_namespaces).
		if names[i] == ".." || !isRoots(dir) {
			break
		}
		dir = filepath.Join(dir, names[i])
		// In cgroup v2 only root can move others here, as the directory around it is root's. In v1 the owner of
		// the directory can, with processes of his own (__cgroup1_procs_write in kernel/cgroup/cgroup-v1.c).
		if in != "" && !isRoots(dir) {
			break
		}
		if c, ok := claims[i]; ok && (!c.weak || isKnown("/"+strings.Join(names[:i+1], "/"), c.id)) {
			ids = append(ids, c.id)
		}
		delete(claims, i)
	}
	return ids
}

// isRoots reports whether only root can change what is in a directory.
func isRoots(dir string) bool {
	var st unix.Stat_t
	return unix.Lstat(dir, &st) == nil && st.Uid == 0 && st.Mode&0o022 == 0
}
