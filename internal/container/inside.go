package container

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"culprit/internal/event"
	"culprit/internal/patience"
)

// Inside says of users who they are inside the container of a process: by its user namespace, and
// by the container's own /etc/passwd, which it can write as it likes. Users who are nil are left out.
func (c *Containers) Inside(pid int, users ...*event.User) {
	if c == nil {
		return
	}
	f := c.find(pid)
	if !f.identity.Known {
		return
	}
	m := c.uidMap(pid)
	for _, u := range users {
		if u == nil {
			continue
		}
		if uid, ok := m.inside(u.UID()); ok {
			id := strconv.FormatUint(uint64(uid), 10)
			u.Inside = event.Inside{ID: id, Name: c.nameInside(pid, f.identity.ID, uid), Container: f.place.Container.Label()}
		}
	}
}

// A uidMap has the lines of /proc/PID/uid_map: from a UID inside on, a UID outside, how many (man 7
// user_namespaces).
type uidMap [][3]uint64

func (c *Containers) uidMap(pid int) (m uidMap) {
	// There can be 340 lines.
	text, err := os.ReadFile(filepath.Join(string(c.fs), strconv.Itoa(pid), "uid_map"))
	if err != nil {
		return nil
	}
	return parseUIDMap(string(text))
}

func parseUIDMap(text string) (m uidMap) {
	for line := range strings.Lines(text) {
		var l [3]uint64
		fields := strings.Fields(line)
		for i := range l {
			if i >= len(fields) {
				return nil
			}
			n, err := strconv.ParseUint(fields[i], 10, 32)
			if err != nil {
				return nil
			}
			l[i] = n
		}
		m = append(m, l)
	}
	return m
}

// inside translates a UID of the host.
func (m uidMap) inside(uid uint32) (uint32, bool) {
	for _, l := range m {
		if n := uint64(uid); n >= l[1] && n-l[1] < l[2] {
			return uint32(l[0] + n - l[1]), true
		}
	}
	return 0, false
}

// insider is a user of a container.
type insider struct {
	container string
	uid       uint32
}

// nameInside returns the name that a container has for a UID, or "".
func (c *Containers) nameInside(pid int, id string, uid uint32) string {
	k := insider{id, uid}
	c.mu.Lock()
	name, known := c.names[k]
	c.mu.Unlock()
	if known {
		return name
	}
	found := make(chan string, 1)
	if !c.patience.Wait("container "+id, patience.Short, func() { found <- c.readName(pid, uid) }) {
		return ""
	}
	name = <-found
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.names) >= maxKnown {
		clear(c.names)
	}
	c.names[k] = name
	return name
}

func (c *Containers) readName(pid int, uid uint32) string {
	f, err := openFiles(filepath.Join(string(c.fs), strconv.Itoa(pid), "root"), anybody)
	if err != nil {
		return ""
	}
	defer f.close()
	passwd, err := f.read("etc/passwd", maxFile)
	if err != nil {
		return ""
	}
	return findUser(passwd, uid)
}

// findUser returns the name of the first user with the UID (man 5 passwd).
func findUser(passwd []byte, uid uint32) string {
	for line := range bytes.Lines(passwd) {
		fields := bytes.SplitN(line, []byte(":"), 4)
		if len(fields) < 4 {
			continue
		}
		if n, err := strconv.ParseUint(string(fields[2]), 10, 32); err == nil && uint32(n) == uid {
			return event.Cut(string(fields[0]), maxUserName)
		}
	}
	return ""
}

// maxUserName bounds the name of a user, in bytes of JSON: a container can make up any.
const maxUserName = 64
