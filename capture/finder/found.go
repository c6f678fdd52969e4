package finder

import (
	"time"

	"culprit/internal/event"
	"culprit/internal/proc"
)

// Target says which processes of a UID are looked for.
type Target struct {
	// Roots are the processes whose trees are meant, in process scope; nil means
	// every process of the UID.
	Roots map[proc.ID]bool
	// Scans grows by one each time all of /proc is to be scanned for this UID. First
	// grows by the PIDs that are to be looked at before that.
	Scans int
	First []int
}

// Guard knows which processes are never traced. Its methods are called on the
// finder's goroutine.
type Guard interface {
	// ForbidsUser reports whether a user is never traced.
	ForbidsUser(uid uint32) bool
	// Forbids says why a process that runs this program is never traced, or nil.
	Forbids(stat proc.Stat, status proc.Status, executable string) *event.Untraced
	// TracedBy says who traces a process already, or nil if nobody does; ours is true
	// if that is a strace of ours.
	TracedBy(status proc.Status) (who *event.Untraced, ours bool)
}

// Output takes what the finder learns. Its methods are called on the finder's
// goroutine, and may wait.
type Output interface {
	// Found is told of each process of a watched UID, perhaps not for the first time.
	Found(Process)
	// Exited is told of the end of each process that was found.
	Exited(Exit)
	// Unseen is told when a child of a process that was found was gone before it could
	// be looked at.
	Unseen(uid uint32)
	// Forbidden is told when a process that is in a trace of ours has become a user who
	// is never traced.
	Forbidden(tracerPID int)
	// Scanned is told when all of /proc was looked at.
	Scanned(Scan)
}

// Process is a process that was found.
type Process struct {
	ID      proc.ID
	UID     uint32       // of its target
	How     string       // a Found constant of package event
	At      time.Time    // when
	Program proc.Program // that it runs
	Parent  *event.Process
	// TracerPID is who traces it already, 0 if nobody does: ptrace(2) allows one at a
	// time. TracedByUs says that it is a strace of ours.
	TracerPID  int
	TracedByUs bool
	// Forbidden says why it must not be traced, or nil: a guard forbids it, or somebody
	// else traces it.
	Forbidden *event.Untraced
}

// Exit is the end of a process.
type Exit struct {
	PID  int
	Code int // as shells count it: 128+n for signal n
	At   time.Time
}

// Scan is a look at all of /proc.
type Scan struct {
	Alive   map[int]bool // the PIDs
	Began   time.Time
	Overrun bool // it was made because process events were lost
}
