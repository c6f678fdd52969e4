// Package finder finds the processes of watched users. It scans /proc, and between scans
// listens to the kernel's proc connector; where there is none it polls /proc. It decides
// nothing: it tells its [Output] of a process whenever there is news of it.
//
// It costs nothing while nobody is watched, and little for the processes of others.
package finder

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"syscall"
	"time"

	"culprit/internal/connector"
	"culprit/internal/event"
	"culprit/internal/proc"
)

// Finder finds processes. Make one with [New], tell it what to look for with
// [Finder.Watch], and let [Finder.Run] run.
type Finder struct {
	fs     proc.FS
	guard  func() Guard // returns the one in force
	within Within
	log    *slog.Logger
	out    Output
	// sets holds the latest set of targets that Run has not taken yet.
	sets chan map[Owner]Target

	// The rest belongs to the goroutine of Run.
	targets map[Owner]Target
	polling bool          // there is no proc connector
	known   map[int]Owner // the PIDs that were found and have not ended, with their target
}

// Within returns the containers that a process is in for certain, the outermost first.
type Within func(pid int) []string

// New makes a finder that looks for nothing yet. guard returns the guard that is in
// force.
func New(fs proc.FS, guard func() Guard, within Within, log *slog.Logger, out Output) *Finder {
	return &Finder{fs: fs, guard: guard, within: within, log: log, out: out, sets: make(chan map[Owner]Target, 1), known: map[int]Owner{}}
}

// Poll makes the finder poll /proc even where there is a proc connector. Call it
// before Run.
func (f *Finder) Poll() { f.polling = true }

// Watch replaces what is looked for. It never waits. Only one goroutine may call it.
func (f *Finder) Watch(set map[Owner]Target) {
	select {
	case <-f.sets: // Run has not taken it yet; the new set asks for all that it asked for
	default:
	}
	f.sets <- set
}

// Run finds processes until the context ends.
func (f *Finder) Run(ctx context.Context) {
	var src *source
	defer func() { src.close() }()
	for {
		select {
		case set := <-f.sets:
			// Listen first, then scan: so no process is missed in between.
			if len(set) > 0 && src == nil {
				src = f.listen()
			}
			f.rescan(set)
			if len(set) == 0 {
				src.close()
				src = nil
			}
		case b, open := <-src.events():
			if !open {
				src = newPoller()
			}
			f.batch(b)
		case <-src.polls():
			f.poll(src)
		case <-ctx.Done():
			return
		}
	}
}

// rescan takes over a new set, and makes the scans that it asks for.
func (f *Finder) rescan(set map[Owner]Target) {
	scan, old := map[Owner]bool{}, f.targets
	f.targets = set
	for owner, t := range set {
		was, known := old[owner]
		if len(was.First) > len(t.First) { // of an earlier capture
			was.First = nil
		}
		for _, pid := range t.First[len(was.First):] {
			f.look(pid, event.FoundScan, func(o Owner) bool { return o == owner })
		}
		if !known || was.Scans != t.Scans {
			scan[owner] = true
		}
	}
	for pid, owner := range f.known {
		if _, watched := set[owner]; !watched {
			delete(f.known, pid)
			f.look(pid, event.FoundScan, anybody) // it may belong to another target, too
		}
	}
	if len(scan) > 0 {
		f.scan(func(o Owner) bool { return scan[o] }, false)
	}
}

// scan looks at every process, for the targets that are wanted.
func (f *Finder) scan(wanted func(Owner) bool, overrun bool) {
	done := Scan{Alive: map[int]bool{}, Began: time.Now(), Overrun: overrun}
	pids, err := f.fs.PIDs()
	if err != nil {
		f.log.Error("cannot list processes", "error", err)
		return
	}
	slices.Sort(pids)
	for _, pid := range slices.Backward(pids) { // the youngest first: they will end first
		done.Alive[pid] = true
		if f.mayBeWatched(pid) {
			f.look(pid, event.FoundScan, wanted)
		}
	}
	f.forget(done.Alive)
	f.out.Scanned(done)
}

func anybody(Owner) bool { return true }

// mayBeWatched quickly rules out most processes that belong to no watched user.
func (f *Finder) mayBeWatched(pid int) bool {
	if f.isOthers(pid) {
		return false
	}
	_, err := f.fs.Executable(pid) // the many kernel threads have none
	return err == nil
}

// isOwned reports whether the effective UID of a process is watched.
func (f *Finder) isOwned(pid int) bool {
	uid, err := f.fs.Owner(pid)
	if err != nil {
		return false
	}
	for owner, t := range f.targets {
		if t.Roots == nil && owner.UID == uid {
			return true
		}
	}
	return false
}

// isOthers reports whether a process is gone, or certainly belongs to no watched user. The
// owner of /proc/PID is the effective UID. Root's processes are looked at: they can be
// set-user-ID programs of a watched user. Any other process that is the user only by its
// real UID shows by an event of its own, or has a parent that is known.
func (f *Finder) isOthers(pid int) bool {
	uid, err := f.fs.Owner(pid)
	if err != nil {
		return true
	}
	for owner, t := range f.targets {
		if uid == 0 || owner.mayOwn(uid) || t.Roots != nil {
			return false
		}
	}
	return true
}

// batch looks at the processes of a batch of events.
func (f *Finder) batch(b batch) {
	if b.overrun {
		f.log.Warn("process events were lost, scanning /proc")
		f.scan(anybody, true)
		return
	}
	for _, e := range b.events {
		f.event(e)
	}
}

// event looks at the process of an event if it may belong to a watched UID. Most do not, and
// cost next to nothing. One that does was there at the first scan for the UID, is the child
// of a process that is known, or has become the UID.
func (f *Finder) event(e connector.Event) {
	_, known := f.known[e.PID]
	switch e.Kind {
	case connector.Fork:
		owner, known := f.known[e.Parent]
		switch {
		case known:
			f.known[e.PID] = owner // even if it is gone, it may have children
			if !f.look(e.PID, event.FoundFork, anybody) {
				f.out.Unseen(owner)
			}
		case f.isOwned(e.PID): // its parent is not known: it ended during a scan, or is another (CLONE_PARENT)
			f.look(e.PID, event.FoundFork, anybody)
		}
	case connector.Exec:
		if known || !f.isOthers(e.PID) {
			f.look(e.PID, event.FoundExec, anybody)
		}
	case connector.UID:
		f.becomes(e, known)
	case connector.Exit:
		// Only the first thread may have ended. A scan tells of the others' end.
		if st, err := f.fs.Stat(e.PID); known && (err != nil || st.Dead()) {
			delete(f.known, e.PID)
			f.out.Exited(Exit{PID: e.PID, Code: exitCode(e.ExitCode), At: time.Now()})
		}
	}
}

// becomes looks at a process that has become another user, if that may be a watched one.
func (f *Finder) becomes(e connector.Event, known bool) {
	owned := known
	var became *Owner
	for owner, t := range f.targets {
		if t.Roots == nil && (owner.mayOwn(e.RUID) || e.RUID != 0 && owner.mayOwn(e.EUID)) {
			owned = true
			if !known {
				f.known[e.PID], became = owner, &owner // even if it is gone, it may have children
			}
		}
	}
	if !owned && !f.guard().ForbidsUser(e.RUID) {
		return
	}
	status, err := f.fs.Status(e.PID)
	if err != nil {
		if became != nil {
			f.out.Unseen(*became)
		}
		return
	}
	if !known {
		delete(f.known, e.PID) // it may be in another container
	}
	f.consider(e.PID, status, event.FoundUID, anybody)
	f.checkUser(status)
}

// checkUser tells of a process that has become a user who is never traced, while a strace of
// ours traces it.
func (f *Finder) checkUser(status proc.Status) {
	if _, ours := f.guard().TracedBy(status); ours && f.guard().ForbidsUser(status.UID.Real) {
		f.out.Forbidden(status.TracerPID)
	}
}

// exitCode turns a status of wait(2) into the exit status that a shell shows.
func exitCode(status uint32) int {
	w := syscall.WaitStatus(status)
	if w.Signaled() {
		return 128 + int(w.Signal())
	}
	return w.ExitStatus()
}

// look tells of a process for each target that it belongs to, and reports whether it could
// be looked at.
func (f *Finder) look(pid int, how string, wanted func(Owner) bool) (looked bool) {
	status, err := f.fs.Status(pid)
	return err == nil && f.consider(pid, status, how, wanted)
}

// consider is look for a process whose status was read just now. In which containers it is, is only
// read where the user is watched.
func (f *Finder) consider(pid int, status proc.Status, how string, wanted func(Owner) bool) (looked bool) {
	at := time.Now()
	var st proc.Stat
	within := sync.OnceValue(func() []string { return f.within(pid) })
	for owner, t := range f.targets {
		switch {
		case !wanted(owner):
			continue
		case t.Roots != nil:
			if !f.fs.IsDescendant(pid, func(id proc.ID) bool { return t.Roots[id] }) {
				continue
			}
		case !owner.ofUser(status), owner.Container != Anywhere && !owner.Covers(within()):
			continue
		}
		if st.PID == 0 {
			var err error
			if st, err = f.fs.Stat(pid); err != nil || st.Dead() {
				return false
			}
		}
		f.known[pid] = owner
		p := Describe(f.fs, f.guard(), st, status, how, at)
		p.Owner = owner
		f.out.Found(p)
	}
	return true
}

// Parent describes the parent of a process, as far as that is still there.
func Parent(fs proc.FS, pid int) *event.Process {
	p := &event.Process{PID: pid}
	if st, err := fs.Stat(pid); err == nil {
		p.EntityID, p.Start, p.Name = st.ID.String(), proc.StartTime(st.Start), st.Comm
		p.CommandLine = fs.CommandLine(pid)
	}
	return p
}

// Describe describes a process, by its state that was read just now, except whose it is. The guard says
// whether it may be traced.
func Describe(fs proc.FS, guard Guard, st proc.Stat, status proc.Status, how string, at time.Time) Process {
	p := Process{ID: st.ID, UID: status.UID.Real, How: how, At: at}
	p.Program.Name = st.Comm
	p.Program.Executable, _ = fs.Executable(st.PID)
	p.Program.CommandLine = fs.CommandLine(st.PID)
	p.Parent = Parent(fs, st.PPID)
	p.Forbidden = guard.Forbids(st, status, p.Program.Executable)
	who, ours := guard.TracedBy(status)
	p.TracerPID, p.TracedByUs = status.TracerPID, ours
	if p.Forbidden == nil && !ours {
		p.Forbidden = who
	}
	return p
}
