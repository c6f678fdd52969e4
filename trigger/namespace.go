package trigger

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"culprit/internal/config"
	"culprit/internal/container"
	"culprit/internal/event"
	"culprit/sensor"
)

// namedNamespaces is where `ip netns` and most runtimes of containers give network namespaces names (man 8 ip-netns).
const namedNamespaces = "/run/netns"

// namespaces says which network namespaces are looked at, and what their names are. One goroutine owns it.
type namespaces struct {
	all      bool
	inodes   map[uint32]bool // of the processes that are named
	patterns []string        // of names of namespaces and of containers

	dir        string            // with the names
	names      map[uint32]string // read last
	modified   unix.Timespec     // the directory, then
	unfinished []string          // names that stood for nothing: one that is being made, or that was left

	// byContainer are the namespaces that were wanted for the name of a container.
	byContainer map[uint32]bool
}

// newNamespaces takes the names of the configuration. Processes that are not there are left out.
func newNamespaces(named []string) *namespaces {
	n := &namespaces{dir: namedNamespaces, inodes: map[uint32]bool{}, names: map[uint32]string{}, byContainer: map[uint32]bool{}}
	for _, name := range named {
		pid, err := strconv.Atoi(name)
		switch {
		case name == config.NamespacesAll:
			n.all = true
		case err != nil:
			n.patterns = append(n.patterns, name)
		default:
			if inode := netnsAt(fmt.Sprintf("/proc/%d/ns/net", pid)); inode != 0 {
				n.inodes[inode] = true
			}
		}
	}
	return n
}

// wants reports whether a namespace is looked at. place is the container of who sent the packet, nil if that is not known: then
// what was found last in the namespace counts.
func (n *namespaces) wants(netns event.Namespace, place *event.Place) bool {
	if n.all || n.inodes[netns.Inode] || n.matches(netns.Name) {
		return true
	}
	if place == nil {
		return n.byContainer[netns.Inode]
	}
	wanted := n.matchesContainer(place.Container)
	if wanted && len(n.byContainer) < maxNamespaces {
		n.byContainer[netns.Inode] = true
	} else {
		delete(n.byContainer, netns.Inode) // it may have been another's
	}
	return wanted
}

// placeOf returns the container of a sender, or nil if that does not matter: files would have to be read.
func (n *namespaces) placeOf(s sensor.Send, containers *container.Containers) *event.Place {
	if n.all {
		return nil
	}
	// Nobody stopped the sender if its namespace is not chosen: it may have ended.
	place := containers.OfCgroup(s.Cgroup, s.Process.PID)
	if place.Container == nil {
		place = containers.Of(s.Process.PID)
	}
	return &place
}

// placeOfSocket returns the container that a socket was made in, or nil if that does not matter or is not known.
func (n *namespaces) placeOfSocket(cgroup uint64, containers *container.Containers) *event.Place {
	if n.all {
		return nil
	}
	place := containers.OfCgroup(cgroup, 0)
	if place.Container == nil {
		return nil
	}
	return &place
}

// maxNamespaces bounds how many namespaces are remembered.
const maxNamespaces = 1 << 14

// matchesContainer reports whether a container is meant, or one that it is in: what is in that could call itself anything.
func (n *namespaces) matchesContainer(c *event.Container) bool {
	for ; c != nil; c = c.Parent {
		if !c.Claimed && n.matches(c.Name) {
			return true
		}
	}
	return false
}

func (n *namespaces) matches(name string) bool {
	return name != "" && slices.ContainsFunc(n.patterns, func(p string) bool {
		is, _ := path.Match(p, name)
		return is
	})
}

// name returns the name of a namespace, or "".
func (n *namespaces) name(inode uint32) string {
	name, known := n.names[inode]
	if known && netnsAt(filepath.Join(n.dir, name)) == inode {
		return name
	}
	if known || n.changed() {
		n.read()
	}
	return n.names[inode]
}

// changed reports whether there may be other names than those that were read. A name is there before it stands for a
// namespace. Some that stand for nothing are never removed: it looks at a few of them, by turns, and not at the directory again.
func (n *namespaces) changed() bool {
	var st unix.Stat_t
	if err := unix.Stat(n.dir, &st); err != nil {
		return false // without the directory none has a name
	}
	for range min(len(n.unfinished), maxUnfinished) {
		name := n.unfinished[0]
		n.unfinished = append(n.unfinished[1:], name)
		if netnsAt(filepath.Join(n.dir, name)) != 0 {
			return true
		}
	}
	return st.Mtim != n.modified
}

// maxUnfinished bounds how many names that stood for nothing are looked at for a packet.
const maxUnfinished = 8

// read reads the names of all namespaces that have one.
func (n *namespaces) read() {
	clear(n.names)
	n.unfinished, n.modified = nil, unix.Timespec{}
	var st unix.Stat_t
	if err := unix.Stat(n.dir, &st); err == nil {
		n.modified = st.Mtim // of before: what comes meanwhile is read again
	}
	files, _ := os.ReadDir(n.dir)
	for _, f := range files[:min(len(files), maxNamespaces)] {
		if inode := netnsAt(filepath.Join(n.dir, f.Name())); inode != 0 {
			n.names[inode] = f.Name()
		} else {
			n.unfinished = append(n.unfinished, f.Name())
		}
	}
}

// netnsAt returns the inode of the namespace that a file stands for; 0: none.
func netnsAt(file string) uint32 {
	var fs unix.Statfs_t
	var st unix.Stat_t
	if unix.Statfs(file, &fs) != nil || fs.Type != unix.NSFS_MAGIC || unix.Stat(file, &st) != nil {
		return 0
	}
	return uint32(st.Ino)
}
