package capture

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"culprit/internal/event"
	"culprit/internal/proc"
)

// forwarder is a process that sends on what other programs asked.
type forwarder struct {
	name string // for people
	// trusted: only root can make it send something of its own, or the administrator said so.
	trusted bool
	how     event.ForwardedHow // by what its packets are joined
}

// forwarder says whether a hit was sent by a forwarder, or returns nil.
//
// A user can make any process look like pasta: by its name, by a library that it has to load, by ptrace, even by
// PR_SET_MM_EXE_FILE. So of a user's process the path is only a hint that it may be one: its packet has to say what
// was said in a namespace that is in the hands of the same user (see [forwarder.serves]), and that sender must be captured.
// Otherwise it is a sender as any, and who asked is told as somebody for whom it may have sent.
func (g *guard) forwarder(h *event.Hit) *forwarder {
	f := &forwarder{how: event.ForwardedQuestion}
	if len(h.Culprit.Serves) > 0 {
		f.how = event.ForwardedMessage // what comes from a device is sent as it is
	}
	// A container can have the UID of any user, root's as well, and show him the host's files.
	onHost := len(h.Within) == 0 && (h.Located || h.Culprit.Netns == nil)
	named := func(u *event.User) bool {
		return slices.Contains(g.resolvers, u.ID) || u.Name != "" && onHost && slices.Contains(g.resolvers, u.Name)
	}
	if h.User != nil && named(h.User) {
		f.name, f.trusted = h.User.String(), true
		return f
	}
	p := h.Process
	if p == nil || p.RealUser == nil {
		return nil
	}
	f.trusted = p.RealUser.ID == "0" && onHost
	if !f.trusted && len(h.Culprit.Origin.Processes) > 0 {
		return nil // others hold its socket, too
	}
	if f.name = matching(g.resolvers, p.Executable); f.name == "" || !g.isHosts(p) {
		return nil
	}
	return f
}

// isHosts reports whether the program of a process is the host's file of its path, and not one that a container or
// a mount shows there. It asks no file system that might not answer.
func (g *guard) isHosts(p *event.Process) bool {
	id, ok := proc.ParseID(p.EntityID)
	if !ok {
		return false
	}
	look := func(pid int, path string) (st unix.Statx_t, ok bool) {
		return st, unix.Statx(unix.AT_FDCWD, fmt.Sprintf("%s/%d/%s", g.fs, pid, path), unix.AT_STATX_DONT_SYNC, unix.STATX_BASIC_STATS, &st) == nil
	}
	// PID 1 shows the host also where we have a mount namespace of our own, if we may look at it.
	shows := 1
	mounts, ok := look(shows, "ns/mnt")
	if !ok {
		shows = g.self
		mounts, ok = look(shows, "ns/mnt")
	}
	var is bool
	if strings.HasSuffix(p.Executable, " (deleted)") {
		its, there := look(id.PID, "ns/mnt")
		is = ok && there && its.Ino == mounts.Ino // an upgrade has replaced the file
	} else {
		its, there := look(id.PID, "exe")
		host, ok := look(shows, "root"+p.Executable)
		const others = unix.S_IWGRP | unix.S_IWOTH
		is = there && ok && its.Dev_major == host.Dev_major && its.Dev_minor == host.Dev_minor && its.Ino == host.Ino && host.Uid == 0 && host.Mode&others == 0
	}
	st, err := g.fs.Stat(id.PID)
	return is && err == nil && st.ID == id
}

// serves reports whether a forwarder that sent a hit's packet may have got it from the sender of another one.
func (f *forwarder) serves(h *event.Hit, a *asked) bool {
	if h.Process != nil && h.Process.EntityID == a.process {
		return false // itself
	}
	there := a.netns
	within := there != nil && slices.ContainsFunc(h.Culprit.Serves, func(s event.Served) bool { return s.Netns.Inode == there.Inode })
	switch {
	case within:
		return true
	case f.trusted && f.how == event.ForwardedQuestion:
		// Who asks the same server itself does not ask the resolver.
		return !h.Destination.IP.IsValid() || a.to != h.Destination
	}
	// Behind the namespace of its device there may be others, of the same user.
	return there != nil && there.Owner != nil && h.Process != nil && h.Process.RealUser != nil &&
		there.Owner.ID != "0" && there.Owner.ID == h.Process.RealUser.ID
}
