package finder

import (
	"time"

	"culprit/internal/event"
	"culprit/internal/proc"
)

// Target says which processes to look for, for one [Owner].
type Target struct {
	// Roots are the processes whose trees are looked for, in process scope; nil means
	// every process of the owner.
	Roots map[proc.ID]bool
	// Scans grows by one for each scan of all of /proc that is wanted. First grows by the
	// PIDs to look at before that.
	Scans int
	First []int
}

// Guard knows which processes are never traced. Its methods are called on the goroutine of
// the finder.
type Guard interface {
	// ForbidsUser reports whether a user is never traced.
	ForbidsUser(uid uint32) bool
	// Forbids says why a process that runs this executable is never traced, or nil.
	Forbids(stat proc.Stat, status proc.Status, executable string) *event.Untraced
	// TracedBy says who traces a process already, or nil if nobody does, and whether that
	// is a strace of ours.
	TracedBy(status proc.Status) (who *event.Untraced, ours bool)
}

// Output takes what the finder learns. Its methods are called on the goroutine of the
// finder, and may wait.
type Output interface {
	// Found is told of each process of a watched owner, perhaps not for the first time.
	Found(Process)
	// Exited is told of the end of each process that was found.
	Exited(Exit)
	// Unseen is told when a child of a process that was found, or a process that became a watched
	// user, was gone before it could be looked at.
	Unseen(Owner)
	// Forbidden is told when a process has become a user who is never traced, while a
	// strace of ours traces it.
	Forbidden(tracerPID int)
	// Scanned is told when all of /proc was scanned.
	Scanned(Scan)
}

// Process is a process that was found.
type Process struct {
	ID      proc.ID
	Owner   Owner        // of its target
	UID     uint32       // the real one
	How     string       // a Found constant of package event
	At      time.Time    // when it was found
	Program proc.Program // that it runs
	Parent  *event.Process
	// TracerPID is who traces it already, 0 if nobody does: ptrace(2) allows one tracer at
	// a time. TracedByUs says that it is a strace of ours.
	TracerPID  int
	TracedByUs bool
	// Forbidden says why it must not be traced: a guard forbids it, or somebody else traces
	// it. Otherwise it is nil.
	Forbidden *event.Untraced
}

// Exit is the end of a process.
type Exit struct {
	PID  int
	Code int // as shells count it: 128+n for signal n
	At   time.Time
}

// Scan is a scan of all of /proc.
type Scan struct {
	Alive   map[int]bool // the PIDs that were there
	Began   time.Time
	Overrun bool // process events had been lost
}
