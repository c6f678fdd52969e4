package trigger

import (
	"fmt"
	"slices"
	"time"

	"culprit/internal/container"
	"culprit/internal/event"
	"culprit/internal/netns"
	"culprit/internal/patience"
	"culprit/internal/proc"
	"culprit/sensor"
)

// served finds the network namespaces for which a process sends (see [netns.Served]), and who is in them. One
// goroutine owns it.
type served struct {
	fs         proc.FS
	users      *proc.Users
	containers *container.Containers
	names      *namespaces
	known      map[proc.ID]serves
	nextSearch time.Time
	patience   patience.Patience
}

// serves are those of a process.
type serves struct {
	all   []event.Served
	until time.Time
}

const (
	// servesFor is how long they are kept, and nothingFor that there are none: pasta opens its device at its start.
	servesFor  = 10 * time.Second
	nothingFor = time.Second
	maxServes  = 1024
)

func newServed(fs proc.FS, users *proc.Users, containers *container.Containers) *served {
	return &served{fs: fs, users: users, containers: containers, names: newNamespaces(nil), known: map[proc.ID]serves{}}
}

// of returns the namespaces that a process serves.
func (s *served) of(id proc.ID) []event.Served {
	now := time.Now()
	if was, ok := s.known[id]; ok && now.Before(was.until) {
		return was.all
	}
	found := s.ask(id.PID)
	var all []event.Served
	for _, n := range found {
		all = append(all, event.Served{Netns: s.namespace(n)})
	}
	if st, err := s.fs.Stat(id.PID); err != nil || st.ID != id {
		return nil // all that may be of another process
	}
	s.place(all)
	until := now.Add(servesFor)
	if len(all) == 0 {
		until = now.Add(nothingFor)
	}
	if len(s.known) >= maxServes {
		clear(s.known)
	}
	s.known[id] = serves{all, until}
	return all
}

// ask asks the kernel for the namespaces. A process may put another file in the place of the device that we copy, and closing that may
// take as long as its user likes (fuse_flush in fs/fuse/file.c).
func (s *served) ask(pid int) []netns.Namespace {
	owner, err := s.fs.Owner(pid)
	if err != nil {
		return nil
	}
	found := make(chan []netns.Namespace, 1)
	if !s.patience.Wait(fmt.Sprint("user ", owner), patience.Short, func() {
		all, _ := netns.Served(s.fs, pid)
		found <- all
	}) {
		return nil
	}
	return <-found
}

// namespace describes a namespace.
func (s *served) namespace(n netns.Namespace) event.Namespace {
	owner := s.users.User(n.Owner)
	return event.Namespace{Inode: n.Inode, Name: s.names.name(n.Inode), Owner: &owner}
}

// owner returns who has power over the network namespace that a packet was sent in, or nil if its sender is known to be elsewhere, with
// a socket there. Of one that has ended nobody knows.
func (s *served) owner(f *sensor.OtherPacket) *event.User {
	if inode, err := netns.Inode(s.fs, f.Process.PID); err == nil && inode != f.Netns {
		return nil
	}
	owner := s.users.User(f.NetnsOwner)
	return &owner
}

// place says which container is in each namespace. That takes a look at every process, for which it has a tenth
// of the time at most.
func (s *served) place(all []event.Served) {
	began := time.Now()
	if len(all) == 0 || began.Before(s.nextSearch) {
		return
	}
	defer func() { s.nextSearch = time.Now().Add(restFactor * time.Since(began)) }()
	pids, _ := s.fs.PIDs()
	slices.Sort(pids)
	for _, pid := range pids {
		n, err := netns.Inode(s.fs, pid)
		if err != nil {
			continue
		}
		for i := range all {
			if all[i].Container == nil && all[i].Netns.Inode == n {
				all[i].Place = s.containers.Of(pid)
			}
		}
	}
}
