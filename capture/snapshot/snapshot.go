// Package snapshot keeps what a process is while it stands still: stopped by a signal, traced by
// nobody. The process waits for it, so everything that could take long has a limit, or comes
// later: the executable is held open, and read when the process goes on.
//
// Whatever is read here the process may have chosen: it is bounded, and what is not there says
// why. A process can make reading it hang for ever, by memory or files of a file system that it
// serves itself. So what could hang is read by goroutines that nobody waits for, few of them.
package snapshot

import (
	"context"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"culprit/internal/container"
	"culprit/internal/event"
	"culprit/internal/proc"
)

// Store keeps snapshots. Its methods are called on the goroutine of [Taker.Run], and on those of
// callers of [Snapshot.Record].
type Store interface {
	// Snapshot is told of each snapshot, and again when its executable has been read.
	Snapshot(event.Snapshot)
	// Executable returns the copy of the executable with that SHA-256, if there is one.
	Executable(sha256 string) (event.File, bool)
	// KeepExecutable copies an executable of about that many bytes, and returns its SHA-256. If
	// it does not, why says so.
	KeepExecutable(content io.Reader, size int64) (sha256 string, file event.File, why *Unkept)
}

// Unkept says why there is no copy of an executable.
type Unkept = event.Reason[event.IncompleteCode]

// Tools are what taking snapshots needs.
type Tools struct {
	FS         proc.FS
	Users      *proc.Users
	Containers *container.Containers
	Stack      string // the path of eu-stack; empty: there is none
	Run        string // a directory of ours for files that a reboot may remove
	Starter    Starter
	Store      Store
}

// A Taker takes snapshots. Make one with [New], and let [Taker.Run] run. Safe for concurrent use.
type Taker struct {
	Tools
	reading places // of goroutines that read a process
	due     chan *Snapshot
	hashes  hashes        // owned by Run
	slow    atomic.Bool   // a file that may hang whoever reads it is being read
	stacks  chan struct{} // holds one for each eu-stack that runs
	// unloaded returns the directory of libraries that eu-stack is not to load.
	unloaded func() string
}

// Bounds of a Taker.
const (
	maxReading = 16 // processes that are read at once, or hang
	maxOfUser  = 8  // of them, those of one user
	maxStacks  = 2  // eu-stacks at once: straces want the processors, too
	maxDue     = 64 // snapshots whose executables wait to be read; each holds a descriptor
)

// New makes a Taker. It starts nothing.
func New(t Tools) *Taker {
	return &Taker{
		Tools: t, due: make(chan *Snapshot, maxDue), stacks: make(chan struct{}, maxStacks), hashes: hashes{},
		unloaded: sync.OnceValue(func() string { return withoutDownloads(t.Run) }),
	}
}

// Request says of which process to take a snapshot.
type Request struct {
	ID  proc.ID
	TID int // the thread that sent the packet; 0: the first
	// Limit bounds the time for /proc, and once more that for the call stack.
	Limit time.Duration
	// Hurry leaves out the call stack, for which there is no time.
	Hurry bool
	// Left is called when eu-stack has let go of the process: stopped, even if somebody has let
	// it go on meanwhile. It may be called on another goroutine, later. It may be nil.
	Left func()
	// Of is what the snapshot belongs to: rule, user, capture, hit, trace.
	Of event.Snapshot
}

// Snapshot is one that was taken. [Snapshot.Record] has to be called.
type Snapshot struct {
	taker *Taker
	doc   event.Snapshot
	exe   *executable // nil: it could not be opened
}

// Take takes a snapshot of a process that stands still. It leaves the process as it was: stopped
// and untraced. It returns nil if the process has gone. Its time is that of the limit, twice, and
// the little that a killed eu-stack takes to end.
func (t *Taker) Take(r Request) *Snapshot {
	begin := time.Now()
	if r.TID == 0 {
		r.TID = r.ID.PID
	}
	s := &Snapshot{taker: t, doc: r.Of}
	d := &s.doc
	d.Timestamp = begin
	d.Event = event.Meta{ID: event.NewID(), Kind: "event", Action: event.ActionSnapshot, Start: &begin}
	d.Process.PID, d.Process.EntityID, d.Process.Start = r.ID.PID, r.ID.String(), proc.StartTime(r.ID.Start)
	if !t.is(r.ID) {
		return nil
	}
	var err error
	if s.exe, err = t.hold(r.ID.PID); err != nil {
		d.Culprit.Miss(event.PartExecutable, code(err), err.Error())
	}
	seen := t.collect(d, t.steps(r, s.exe), r.Limit)
	if s.exe != nil && s.exe.mayHang == notPlaced {
		d.Culprit.Replaceable = &event.Replaceable{Code: event.ReplaceableUnknown, Detail: "its place could not be looked at in time"}
	}
	t.stack(d, r, seen)
	if !t.is(r.ID) { // what we read may be another's
		s.close()
		return nil
	}
	d.Event.Finish(time.Now())
	return s
}

// is reports whether the process is there.
func (t *Taker) is(id proc.ID) bool {
	st, err := t.FS.Stat(id.PID)
	return err == nil && st.ID == id && !st.Dead()
}

// Call returns the arguments of the system call in which the thread stands, as far as they are known.
func (s *Snapshot) Call() []string {
	if s == nil || s.doc.Culprit.Registers == nil {
		return nil
	}
	return s.doc.Culprit.Registers.Args
}

// Record hands the snapshot on: to be kept, after its executable has been read. traced says
// whether strace attached. It does not wait. On a nil Snapshot it does nothing, nor a second time.
func (s *Snapshot) Record(traced bool) {
	if s == nil || s.taker == nil {
		return
	}
	t := s.taker
	s.taker = nil
	if !traced {
		s.doc.Culprit.Trace = nil
	}
	if s.exe == nil {
		s.finish(t)
		return
	}
	select {
	case t.due <- s:
	default:
		s.doc.Culprit.Miss(event.PartExecutable, event.IncompleteBusy, "")
		s.finish(t)
	}
}

// finish records the snapshot as it is now, for good.
func (s *Snapshot) finish(t *Taker) {
	s.close()
	s.doc.Fit()
	t.Store.Snapshot(s.doc)
}

func (s *Snapshot) close() {
	if s.exe != nil {
		s.exe.close()
	}
}

// Run reads executables until the context ends, one after the other.
func (t *Taker) Run(ctx context.Context) {
	for {
		select {
		case s := <-t.due:
			t.read(ctx, s)
		case <-ctx.Done():
			for {
				select {
				case s := <-t.due:
					s.doc.Culprit.Miss(event.PartExecutable, event.IncompleteStopped, "")
					s.finish(t)
				default:
					return
				}
			}
		}
	}
}
