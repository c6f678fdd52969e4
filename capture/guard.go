package capture

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"culprit/internal/config"
	"culprit/internal/event"
	"culprit/internal/proc"
)

// guard decides who and what is never traced.
type guard struct {
	fs          proc.FS
	self        int
	wholeNever  []uint32 // users who are captured by process only
	users       []uint32 // users who are never traced
	executables []string // patterns of path.Match
	resolvers   []string // users, by name or UID, and such patterns
}

func newGuard(fs proc.FS, c config.Guard) *guard {
	g := &guard{fs: fs, self: os.Getpid(), executables: c.NeverExecutables, resolvers: c.Resolvers}
	for _, u := range c.ProcessScopeUsers {
		g.wholeNever = append(g.wholeNever, u.UID)
	}
	for _, u := range c.NeverUsers {
		g.users = append(g.users, u.UID)
	}
	return g
}

// scope returns how a UID is captured. Root is never captured as a whole: that would be
// the whole machine.
func (g *guard) scope(uid uint32, configured string) string {
	if uid == 0 || slices.Contains(g.wholeNever, uid) {
		return config.ScopeProcess
	}
	return configured
}

// senders returns the processes that are known to have sent a hit's packet, and whose
// trees may be traced. PID 1 is left out: it holds the sockets of the services that it
// started, and everything descends from it.
func (g *guard) senders(h *event.Hit) []proc.ID {
	var ids []proc.ID
	for _, p := range h.Senders() {
		if id, ok := proc.ParseID(p.EntityID); ok && id.PID != 1 && id.PID != g.self {
			ids = append(ids, id)
		}
	}
	return ids
}

// ForbidsUser reports whether a user is never traced.
func (g *guard) ForbidsUser(uid uint32) bool { return slices.Contains(g.users, uid) }

// Forbids says why a process is never traced, or nil.
func (g *guard) Forbids(st proc.Stat, status proc.Status, executable string) *event.Untraced {
	switch {
	case st.PID == 1:
		return &event.Untraced{Code: event.UntracedInit}
	case st.KernelThread():
		return &event.Untraced{Code: event.UntracedKernelThread}
	case status.UID.Real == 0 && g.fs.IsDescendant(st.PID, func(id proc.ID) bool { return id.PID == g.self }):
		return &event.Untraced{Code: event.UntracedOurs} // all of ours are root's
	case g.ForbidsUser(status.UID.Real):
		return &event.Untraced{Code: event.UntracedNeverUsers}
	}
	if pattern := matching(g.executables, executable); pattern != "" {
		return &event.Untraced{Code: event.UntracedNeverExecutables, Detail: pattern}
	}
	return nil
}

// becameForbidden says why a trace ends whose process has become what a guard forbids.
func becameForbidden(why event.Untraced) event.Ended {
	switch why.Code {
	case event.UntracedNeverUsers:
		return event.Ended{Code: event.EndedNeverUsers}
	case event.UntracedNeverExecutables:
		return event.Ended{Code: event.EndedNeverExecutables, Detail: why.Detail}
	}
	return event.Ended{Code: event.EndedOtherGuard, Detail: string(why.Code)}
}

// matching returns the first pattern that matches the path of a program, or "" if none does.
func matching(patterns []string, executable string) string {
	executable = strings.TrimSuffix(executable, " (deleted)") // an upgrade replaced it
	for _, pattern := range patterns {
		if ok, _ := path.Match(pattern, executable); ok {
			return pattern
		}
	}
	return ""
}

// TracedBy says who traces a process already, or nil if nobody does; ours is true if it
// is a strace of ours.
func (g *guard) TracedBy(status proc.Status) (who *event.Untraced, ours bool) {
	if status.TracerPID == 0 {
		return nil, false
	}
	st, err := g.fs.Stat(status.TracerPID)
	if err != nil || st.Dead() {
		return nil, false // not any more
	}
	return &event.Untraced{Code: event.UntracedForeign, Detail: fmt.Sprintf("process %d (%s)", st.PID, st.Comm)}, st.PPID == g.self
}
