package proc

import (
	"os/user"
	"strconv"
	"strings"
	"sync"

	"culprit/internal/event"
)

// Users finds the names of UIDs in /etc/passwd and remembers them, and the parents
// that [FS.Describe] described. Safe for concurrent use.
type Users struct {
	mu      sync.Mutex
	names   map[uint32]string
	parents map[parentKey]event.Process
}

// parentKey names a parent and the program it is: the name changes by execve.
type parentKey struct {
	id   ID
	comm string
}

// maxRemembered bounds each of the two memories.
const maxRemembered = 4096

func (u *Users) parent(k parentKey) (event.Process, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	p, ok := u.parents[k]
	return p, ok
}

func (u *Users) remember(k parentKey, p event.Process) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.parents == nil || len(u.parents) >= maxRemembered {
		u.parents = map[parentKey]event.Process{}
	}
	u.parents[k] = p
}

// Name returns the user's name, or "" if the UID has none. A name is remembered
// for good: it labels evidence, nothing is decided by it.
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

// MaxCommandLine is how much of a command line is kept, in bytes; of parents it is
// less. Programs can make them megabytes long, and each hit holds a chain of them.
const (
	MaxCommandLine       = 4096
	maxParentCommandLine = 512
)

// CommandLine reads the command line, its arguments joined by spaces. A long one
// is cut and ends in "…"; it is empty if it cannot be read.
func (fs FS) CommandLine(pid int) string { return fs.commandLine(pid, MaxCommandLine) }

func (fs FS) commandLine(pid, most int) string {
	args, _ := fs.Args(pid)
	return JoinArgs(args, most)
}

// JoinArgs joins arguments by spaces and cuts what is longer than most bytes.
func JoinArgs(args []string, most int) string {
	s := strings.Join(args, " ")
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// maxParents bounds the chain of parents that is followed; a machine's deepest
// is rarely over 20.
const maxParents = 64

// Describe tells all there is to know of a live process, its parents up to PID 1
// included. What cannot be read is left out; the error is [ErrGone], or says why
// not even /proc/PID/stat can be read.
func (fs FS) Describe(pid int, users *Users) (event.Process, error) {
	st, err := fs.Stat(pid)
	if err != nil {
		return event.Process{}, err
	}
	p, ppid := fs.describeOne(st, MaxCommandLine, users), st.PPID
	last := &p
	for n := 0; ppid > 0 && n < maxParents; n++ {
		st, err := fs.Stat(ppid)
		if err != nil {
			break
		}
		k := parentKey{st.ID, st.Comm}
		parent, known := users.parent(k)
		if !known {
			parent = fs.describeOne(st, maxParentCommandLine, users)
			users.remember(k, parent)
		}
		last.Parent = &parent
		last, ppid = &parent, st.PPID
	}
	return p, nil
}

func (fs FS) describeOne(st Stat, most int, users *Users) event.Process {
	pid := st.PID
	p := event.Process{PID: pid, EntityID: st.ID.String(), Start: StartTime(st.Start), Name: st.Comm}
	if status, err := fs.Status(pid); err == nil {
		u := users.User(status.UID.Real)
		p.RealUser = &u
	}
	p.Executable, _ = fs.Executable(pid)
	p.WorkingDirectory, _ = fs.WorkingDirectory(pid)
	p.CommandLine = fs.commandLine(pid, most)
	return p
}

// IsDescendant reports whether the process is one of the ancestors' or stems from
// one of them. Children of ancestors that have ended belong to init and are not
// found so.
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
