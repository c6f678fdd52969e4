package capture

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"culprit/internal/connector"
	"culprit/internal/event"
	"culprit/internal/proc"
)

// watch says which processes of a UID are looked for.
type watch struct {
	// roots are the processes whose trees are meant, in process scope; nil means
	// every process of the UID.
	roots map[proc.ID]bool
	// scans grows by one each time all of /proc is to be looked at for this UID. first
	// grows by the PIDs that are to be looked at before.
	scans int
	first []int
}

// Messages of the finder to the controller.
type (
	// found tells of a process of a watched UID, perhaps not for the first time.
	found struct {
		id                            proc.ID
		uid                           uint32 // of the watch
		how                           string // a Found constant of package event
		at                            time.Time
		comm, executable, commandLine string
		parent                        *event.Process
		refused                       string // why a guard forbids to trace it
		foreign                       bool   // because somebody else traces it
		tracer                        int    // who traces it already
		ours                          bool   // that is a strace of ours
		hold                          uint64 // the gate holds it under this number; 0: it does not
		gone                          bool   // it has ended since
	}
	// forbidden tells that a strace of ours must let go.
	forbidden struct {
		tracer int
		why    string
	}
	// exited tells that a process has ended, found before or not.
	exited struct {
		pid  int
		code int // as shells count it: 128+n for signal n
		at   time.Time
	}
	// unseen tells that a child of a process that was found before was gone before
	// it could be looked at.
	unseen struct{ uid uint32 }
	// scanned says that all of /proc was looked at, and who was there; with overrun
	// because process events were lost.
	scanned struct {
		alive   map[int]bool
		at      time.Time // when the scan began
		overrun bool
	}
)

// keepCommandLine keeps the command line that is known already where the news of the
// same program has none, or only its path: a process that is just ending has lost it.
func (f *found) keepCommandLine(p *event.Process) {
	if f.executable == p.Executable && (f.commandLine == "" || f.commandLine == f.executable) {
		f.commandLine = cmp.Or(p.CommandLine, f.commandLine)
	}
}

// finder finds processes: by scans of /proc, and by what the proc connector tells
// in between. It listens only while something is watched.
type finder struct {
	fs    proc.FS
	guard *atomic.Pointer[guard]
	log   *slog.Logger
	send  func(any)
	open  func() *source // starts to listen
	// watches holds the latest set that the finder has not taken yet.
	watches chan map[uint32]watch

	// What follows belongs to the goroutine of run.
	watched map[uint32]watch
	polling bool           // there is no proc connector here
	known   map[int]uint32 // the processes of watched UIDs that have not ended, and their watch
}

func newFinder(fs proc.FS, g *atomic.Pointer[guard], log *slog.Logger, send func(any)) *finder {
	f := &finder{fs: fs, guard: g, log: log, send: send, watches: make(chan map[uint32]watch, 1), known: map[int]uint32{}}
	f.open = f.listen
	return f
}

// watch replaces what is watched. It never waits, and has one caller.
func (f *finder) watch(set map[uint32]watch) {
	select {
	case <-f.watches: // not taken yet: the new set holds all that it asked for
	default:
	}
	f.watches <- set
}

// run works until the context ends.
func (f *finder) run(ctx context.Context) {
	var src *source
	defer func() { src.close() }()
	for {
		select {
		case set := <-f.watches:
			// Listen first, then scan, so that no process slips in between.
			if len(set) > 0 && src == nil {
				src = f.open()
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

// rescan takes over a new set and scans for what it asks to be scanned.
func (f *finder) rescan(set map[uint32]watch) {
	scan, old := map[uint32]bool{}, f.watched
	f.watched = set
	for uid, w := range set {
		o, known := old[uid]
		if len(o.first) > len(w.first) { // of an earlier capture
			o.first = nil
		}
		for _, pid := range w.first[len(o.first):] {
			f.look(pid, event.FoundScan, func(u uint32) bool { return u == uid })
		}
		if !known || o.scans != w.scans {
			scan[uid] = true
		}
	}
	for pid, uid := range f.known {
		if _, watched := set[uid]; !watched {
			delete(f.known, pid)
			f.look(pid, event.FoundScan, anyUID) // it may be another watch's, too
		}
	}
	if len(scan) > 0 {
		f.scan(func(uid uint32) bool { return scan[uid] }, false)
	}
}

// scan looks at every process for the watches that are wanted.
func (f *finder) scan(wanted func(uint32) bool, overrun bool) {
	done := scanned{alive: map[int]bool{}, at: time.Now(), overrun: overrun}
	pids, err := f.fs.PIDs()
	if err != nil {
		f.log.Error("processes cannot be listed", "error", err)
		return
	}
	slices.Sort(pids)
	for _, pid := range slices.Backward(pids) { // the youngest first: they end first
		done.alive[pid] = true
		if f.mayBeWatched(pid) {
			f.look(pid, event.FoundScan, wanted)
		}
	}
	f.forget(done.alive)
	f.send(done)
}

func anyUID(uint32) bool { return true }

// mayBeWatched tells quickly of most processes that they are of no watched user.
func (f *finder) mayBeWatched(pid int) bool {
	if f.isOthers(pid) {
		return false
	}
	_, err := f.fs.Executable(pid) // kernel threads, of which there are many, have none
	return err == nil
}

// isOwned reports whether the effective UID of a process is watched.
func (f *finder) isOwned(pid int) bool {
	owner, err := f.fs.Owner(pid)
	w, watched := f.watched[owner]
	return err == nil && watched && w.roots == nil
}

// isOthers reports whether a process is gone, or for sure of no watched user. The
// owner of /proc/PID is the effective UID; root's are looked at, as set-user-ID
// programs are. Another real UID comes by an event of its own, or from a parent that
// is known.
func (f *finder) isOthers(pid int) bool {
	owner, err := f.fs.Owner(pid)
	if err != nil {
		return true
	}
	for uid, w := range f.watched {
		if owner == 0 || owner == uid || w.roots != nil {
			return false
		}
	}
	return true
}

// batch looks at the processes that events tell of.
func (f *finder) batch(b batch) {
	if b.overrun {
		f.log.Warn("process events were lost, scanning /proc")
		f.scan(anyUID, true)
		return
	}
	for _, e := range b.events {
		f.event(e)
	}
}

// event looks at the process of an event if it can be of a watched UID. Most are not,
// and cost next to nothing: whoever is of a watched UID was there when that was first
// scanned for, is the child of one that is known, or became it.
func (f *finder) event(e connector.Event) {
	_, known := f.known[e.PID]
	switch e.Kind {
	case connector.Fork:
		uid, known := f.known[e.Parent]
		switch {
		case known:
			f.known[e.PID] = uid // even if it is gone: it may have children
			if !f.look(e.PID, event.FoundFork, anyUID) {
				f.send(unseen{uid})
			}
		case f.isOwned(e.PID): // its parent ended during a scan, or is another (CLONE_PARENT)
			f.look(e.PID, event.FoundFork, anyUID)
		}
	case connector.Exec:
		if known || !f.isOthers(e.PID) {
			f.look(e.PID, event.FoundExec, anyUID)
		}
	case connector.UID:
		for uid, w := range f.watched {
			if w.roots == nil && (e.RUID == uid || e.RUID != 0 && e.EUID == uid) {
				f.known[e.PID], known = uid, true
			}
		}
		if !known && f.guard.Load().forbidsUser(e.RUID) == "" {
			return
		}
		if status, err := f.fs.Status(e.PID); err == nil {
			f.consider(e.PID, status, event.FoundUID, anyUID)
			f.checkUser(status)
		}
	case connector.Exit:
		if known {
			delete(f.known, e.PID)
			f.send(exited{pid: e.PID, code: exitCode(e.ExitCode), at: time.Now()})
		}
	}
}

// checkUser tells of a process in one of our traces that has become a user who is
// never traced.
func (f *finder) checkUser(status proc.Status) {
	why := f.guard.Load().forbidsUser(status.UID.Real)
	if _, ours := f.guard.Load().tracedBy(status); ours && why != "" {
		f.send(forbidden{status.TracerPID, why})
	}
}

// exitCode turns a status of wait(2) into what shells call it.
func exitCode(status uint32) int {
	w := syscall.WaitStatus(status)
	if w.Signaled() {
		return 128 + int(w.Signal())
	}
	return w.ExitStatus()
}

// look reports a process to the watches it belongs to, and whether it could be
// looked at.
func (f *finder) look(pid int, how string, wanted func(uint32) bool) (there bool) {
	status, err := f.fs.Status(pid)
	return err == nil && f.consider(pid, status, how, wanted)
}

// consider is look, of a process whose status was read just now.
func (f *finder) consider(pid int, status proc.Status, how string, wanted func(uint32) bool) (there bool) {
	at := time.Now()
	var st proc.Stat
	for uid, w := range f.watched {
		if !wanted(uid) || w.roots == nil && !status.Of(uid) {
			continue
		}
		if w.roots != nil && !f.fs.IsDescendant(pid, func(id proc.ID) bool { return w.roots[id] }) {
			continue
		}
		if st.PID == 0 {
			var err error
			if st, err = f.fs.Stat(pid); err != nil || st.Dead() {
				return false
			}
		}
		f.known[pid] = uid
		f.send(f.describe(st, status, uid, how, at))
	}
	return true
}

// parent describes a parent, as far as it is there.
func parent(fs proc.FS, pid int) *event.Process {
	p := &event.Process{PID: pid}
	if st, err := fs.Stat(pid); err == nil {
		p.EntityID, p.Start, p.Name = st.ID.String(), proc.StartTime(st.Start), st.Comm
		p.CommandLine = fs.CommandLine(pid)
	}
	return p
}

func (f *finder) describe(st proc.Stat, status proc.Status, uid uint32, how string, at time.Time) found {
	p := found{id: st.ID, uid: uid, how: how, at: at, comm: st.Comm, tracer: status.TracerPID}
	p.executable, _ = f.fs.Executable(st.PID)
	p.commandLine = f.fs.CommandLine(st.PID)
	p.parent = parent(f.fs, st.PPID)
	p.refused = f.guard.Load().forbids(st, status, p.executable)
	who, ours := f.guard.Load().tracedBy(status)
	p.ours = ours
	if p.refused == "" && !ours {
		p.refused, p.foreign = who, who != ""
	}
	return p
}
