package proc

import (
	"encoding/json"
	"os/user"
	"strconv"
	"strings"
	"sync"

	"culprit/internal/event"
)

// Users looks up the names of UIDs in /etc/passwd and caches them. It also caches the parents
// that [FS.Describe] described. It is safe for concurrent use.
type Users struct {
	mu      sync.Mutex
	names   map[uint32]string
	parents map[parentKey]ancestor
}

// ancestor is a parent without its own parents, and its length as JSON in bytes.
type ancestor struct {
	event.Process
	size int
}

// parentKey identifies a parent and the program it runs: an execve changes the name.
type parentKey struct {
	id   ID
	comm string
}

// maxRemembered bounds each of the two caches.
const maxRemembered = 4096

func (u *Users) parent(k parentKey) (ancestor, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	p, ok := u.parents[k]
	return p, ok
}

func (u *Users) remember(k parentKey, p ancestor) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.parents == nil || len(u.parents) >= maxRemembered {
		u.parents = map[parentKey]ancestor{}
	}
	u.parents[k] = p
}

// Name returns the user's name, or "" if the UID has none. It caches a name for good, because
// names only label evidence and decide nothing.
func (u *Users) Name(uid uint32) string {
	u.mu.Lock()
	defer u.mu.Unlock()
	name, known := u.names[uid]
	if known {
		return name
	}
	if found, err := user.LookupId(strconv.FormatUint(uint64(uid), 10)); err == nil {
		name = found.Username
	}
	if u.names == nil || len(u.names) >= maxRemembered {
		u.names = map[uint32]string{}
	}
	u.names[uid] = name
	return name
}

// User describes a UID.
func (u *Users) User(uid uint32) event.User {
	return event.User{ID: strconv.FormatUint(uint64(uid), 10), Name: u.Name(uid)}
}

// MaxCommandLine is how much of a command line is kept, in bytes of JSON. A program can have
// one that is megabytes long.
const MaxCommandLine = 4096

// limits is how much is kept of the texts that a process controls, in bytes of JSON, see
// [event.Cut]. It is less for parents, as each hit holds a chain of them.
type limits struct{ commandLine, path int }

var (
	ofProcess = limits{commandLine: MaxCommandLine, path: 1024}
	ofParent  = limits{commandLine: 512, path: 256}
)

// maxAncestry bounds the parents of a process together, in bytes of JSON. A chain of 20 takes 8
// KB if nobody makes it longer on purpose.
const maxAncestry = 16 << 10

// CommandLine reads the command line, with the arguments joined by spaces. It cuts a long one,
// which then ends in "…", and returns "" if it cannot read it.
func (fs FS) CommandLine(pid int) string { return fs.commandLine(pid, MaxCommandLine) }

func (fs FS) commandLine(pid, most int) string {
	args, _ := fs.Args(pid)
	return JoinArgs(args, most)
}

// JoinArgs joins arguments by spaces and cuts the result to at most most bytes of JSON.
func JoinArgs(args []string, most int) string { return event.Cut(strings.Join(args, " "), most) }

// maxParents bounds how many parents are followed. The deepest chain of a machine is rarely
// over 20.
const maxParents = 64

// Describe returns everything that /proc shows about a live process, including its parents up
// to PID 1. It leaves out the middle of a chain that is too long, and counts it. It also leaves
// out what it cannot read. The error is [ErrGone], or says why not even /proc/PID/stat could be
// read.
func (fs FS) Describe(pid int, users *Users) (event.Process, error) {
	st, err := fs.Stat(pid)
	if err != nil {
		return event.Process{}, err
	}
	p, ppid := fs.describeOne(st, ofProcess, users), st.PPID
	var parents []ancestor
	for ppid > 0 && len(parents) < maxParents {
		st, err := fs.Stat(ppid)
		if err != nil {
			break
		}
		k := parentKey{st.ID, st.Comm}
		parent, known := users.parent(k)
		if !known {
			parent = newAncestor(fs.describeOne(st, ofParent, users))
			users.remember(k, parent)
		}
		parents, ppid = append(parents, parent), st.PPID
	}
	if len(parents) == maxParents && ppid > 0 {
		parents[maxParents-1].LeftOut = 1 // or more: nobody looked further
	}
	link(&p, parents)
	return p, nil
}

func newAncestor(p event.Process) ancestor {
	counts := p
	counts.LeftOut = maxParents // the longest value, for measuring
	b, _ := json.Marshal(counts)
	return ancestor{p, len(`,"parent":`) + len(b)}
}

// link sets the parents of a process. If maxAncestry cannot hold all, it keeps the nearest,
// which show who started the process, and the uppermost, which show where it all came from.
func link(p *event.Process, parents []ancestor) {
	near, far := 0, len(parents)
	for left, up := maxAncestry, false; near < far; up = !up {
		next := near
		if up {
			next = far - 1
		}
		if left -= parents[next].size; left < 0 {
			break
		}
		if up {
			far--
		} else {
			near++
		}
	}
	last := p
	for i := range parents {
		if i >= near && i < far {
			last.LeftOut++
			continue
		}
		parent := parents[i].Process
		last.Parent, last = &parent, &parent
	}
}

func (fs FS) describeOne(st Stat, most limits, users *Users) event.Process {
	pid := st.PID
	p := event.Process{PID: pid, EntityID: st.ID.String(), Start: StartTime(st.Start), Name: st.Comm}
	if status, err := fs.Status(pid); err == nil {
		u := users.User(status.UID.Real)
		p.RealUser = &u
	}
	executable, _ := fs.Executable(pid)
	directory, _ := fs.WorkingDirectory(pid)
	p.Executable, p.WorkingDirectory = event.Cut(executable, most.path), event.Cut(directory, most.path)
	p.CommandLine = fs.commandLine(pid, most.commandLine)
	return p
}

// IsDescendant reports whether the process is one of the ancestors or descends from one. It
// does not recognise children of ancestors that have ended, as those belong to init.
func (fs FS) IsDescendant(pid int, ancestors func(ID) bool) bool {
	for n := 0; pid > 0 && n < maxParents; n++ {
		st, err := fs.Stat(pid)
		if err != nil {
			return false
		}
		if ancestors(st.ID) {
			return true
		}
		pid = st.PPID
	}
	return false
}
