package lookback

import (
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"culprit/internal/proc"
)

// Bounds of a story.
const (
	maxParents    = 8
	maxOwn        = 4096    // calls of the sender, the latest
	maxOfParent   = 256     // calls of each parent, the latest
	maxStoryBytes = 8 << 20 // of their records
	maxEdges      = 1 << 17 // starts of processes that are looked at
)

// A Sender is the process whose story is wanted.
type Sender struct {
	ID proc.ID
	// Parents are what /proc says, the nearest first. The ring knows better, as far as it goes back.
	Parents []proc.ID
	// After leaves out what is in an earlier story, whose Until it is, and the parents.
	After uint64
}

// A Story is what a process and its parents did.
type Story struct {
	Events []Event // by time
	// Processes are the sender, its parent, and so on, as far as they are known.
	Processes []proc.ID
	// Until is when the ring was read, in nanoseconds of CLOCK_MONOTONIC.
	Until uint64
	// Horizon is since when nothing is missing: the recorder's start, or later if the ring of a
	// processor has turned over.
	Horizon time.Time
	// TurnedOver says that the ring has forgotten what was before the Horizon.
	TurnedOver bool
	// Older says that the sender started before the Horizon, or just then.
	Older bool
	// Started says that the story has the sender's execve, or its fork.
	Started bool
	// LeftOut counts calls that had no room in the story. Overwritten counts pieces of the ring that
	// were overwritten while they were read.
	LeftOut, Overwritten int

	wall int64 // what the calendar is ahead of CLOCK_MONOTONIC
}

// Time turns a time of an event into one of the calendar.
func (s *Story) Time(mono uint64) time.Time { return time.Unix(0, s.wall+int64(mono)) }

// Read returns what a sender and its parents did. It does not stop the recording, and takes some
// milliseconds for a full ring. Not safe for concurrent use.
func (r *Recorder) Read(of Sender) *Story { return r.ReadAll([]Sender{of})[0] }

// ReadAll is [Recorder.Read] for several senders, and takes hardly longer than for one.
func (r *Recorder) ReadAll(senders []Sender) (stories []*Story) {
	until, wall := clock(unix.CLOCK_MONOTONIC), ahead()
	horizon, turned := r.horizon()
	var starts map[proc.ID]edge
	for _, of := range senders {
		s := &Story{Until: until, wall: wall, TurnedOver: turned, Processes: []proc.ID{of.ID}}
		s.Horizon = s.Time(horizon)
		if of.After == 0 {
			if starts == nil {
				starts = r.starts()
			}
			s.lineage(of, starts)
		}
		stories = append(stories, s)
	}
	r.collect(stories, senders)
	for i, s := range stories {
		id := senders[i].ID
		s.Started = slices.ContainsFunc(s.Events, func(e Event) bool {
			return e.Process == id && (e.Started || e.form == fork && e.Result == 0)
		})
		s.Older = !s.Started && id.Start*perTick < horizon+r.boot
	}
	return stories
}

// Without drops the calls that were made under some users.
func (s *Story) Without(user func(uid uint32) bool) {
	s.Events = slices.DeleteFunc(s.Events, func(e Event) bool { return user(e.UID) })
}

// First returns when the first event of the story was, in nanoseconds of CLOCK_MONOTONIC.
func (s *Story) First() uint64 {
	if len(s.Events) == 0 {
		return s.Until
	}
	return s.Events[0].At
}

// Has reports whether the story has the call of that name that a thread had in progress at that
// time: it has returned since.
func (s *Story) Has(tid int, name string, at time.Time) bool {
	mono := uint64(at.UnixNano() - s.wall)
	const clocks = uint64(100 * time.Microsecond) // the times come from two readings of the clocks
	return slices.ContainsFunc(s.Events, func(e Event) bool {
		return e.TID == tid && e.At+clocks >= mono && (e.Name == name || name == "")
	})
}

// Program returns the last program that the sender became.
func (s *Story) Program() (path string, args []string, ok bool) {
	for _, e := range slices.Backward(s.Events) {
		if e.Process != s.Processes[0] || !e.Started {
			continue
		}
		for _, p := range e.parts {
			switch {
			case p.failed:
			case p.kind == partString:
				path = string(p.bytes)
			case p.kind == partArgs:
				args, _ = p.args()
			}
		}
		return path, args, path != ""
	}
	return "", nil, false
}

// Exit returns the exit code of a process, 128+n if signal n killed it, if the story has that.
func (s *Story) Exit(id proc.ID) (code int, ok bool) {
	for _, e := range slices.Backward(s.Events) {
		// That of the first thread is that of the process (do_group_exit in kernel/exit.c).
		if e.Process != id || !e.Ended || e.TID != id.PID {
			continue
		}
		if status := e.Status(); status.Signaled() {
			return 128 + int(status.Signal()), true
		} else {
			return status.ExitStatus(), true
		}
	}
	return 0, false
}
