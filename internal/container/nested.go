package container

import (
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// An innerSource tells what is known, within the container outer, of one in it.
type innerSource func(outer, of claim) (details, bool)

func nobody(claim) (details, bool)             { return details{}, false }
func nobodyThere(claim, claim) (details, bool) { return details{}, false }

// around returns those of the claims that are around one, the innermost first.
func (of claim) around(claims []claim) (outer []claim) {
	for _, c := range claims {
		if c.line == of.line && strings.HasPrefix(of.path, c.path+"/") {
			outer = append(outer, c)
		}
	}
	return outer
}

// maxParents bounds how far up is searched for who started a container.
const maxParents = 32

// inContainer asks the files in a container of root's what they know of a container in it, which a process is in. These files are
// reached through the runtime that started that: the first parent of the process that is in the outer container alone.
func (c *Containers) inContainer(pid int, outer, of claim) (details, bool) {
	if _, rootless := userOf(outer.path); rootless || pid <= 0 {
		return details{}, false
	}
	for range maxParents {
		st, err := c.fs.Stat(pid)
		if err != nil || st.PPID <= 0 {
			break
		}
		pid = st.PPID
		switch isIn, isInner := c.claims(pid, outer, of); {
		case isInner:
			continue
		case !isIn:
			return details{}, false // whoever started it did so from outside
		}
		d, known := askInside(filepath.Join(string(c.fs), strconv.Itoa(pid), "root"), of)
		// The process may have ended meanwhile, and another have its PID.
		if isIn, _ := c.claims(pid, outer, of); !isIn {
			break
		}
		return d, known
	}
	return details{}, false
}

// askInside asks the files of a container, whose root can make them as large as he likes.
func askInside(dir string, of claim) (details, bool) {
	f, err := openFiles(dir, 0)
	if err != nil {
		return details{}, false
	}
	defer f.close()
	f.maxList = maxFile
	return f.ask(of)
}

// claims reports whether a process is in the cgroups of two containers, one within the other.
func (c *Containers) claims(pid int, outer, inner claim) (isIn, isInner bool) {
	text, err := c.fs.Cgroup(pid)
	if err != nil {
		return false, false
	}
	all := parse(text)
	in := func(of claim) bool {
		return slices.ContainsFunc(all, func(c claim) bool { return c.id == of.id && c.path == of.path })
	}
	return in(outer), in(inner)
}
