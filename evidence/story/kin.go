package story

import (
	"bytes"
	"slices"
	"time"

	"culprit/internal/event"
)

// relation says what the thread of a line is to the sender.
type relation int

const (
	stranger relation = iota
	ancestor          // what started the sender, before it did
	itself            // a thread of the sender
	child             // what the sender started
)

// maxForks bounds the threads and processes that are remembered.
const maxForks = 1 << 16

// kin knows who started whom.
type kin struct {
	forks map[int]fork // by the new TID
	// processes are those that a look-back has, by PID; nil for another trace.
	processes map[int]bool
	seen      map[int]bool // the threads of which there are lines
	sender    int          // the PID
	traced    int          // the PID of the process that is traced: other threads were forked by a line
	full      bool
	leader    int       // the thread that stands for the sender
	last      time.Time // the last packet
}

// fork is the start of a thread or process.
type fork struct {
	parent int
	thread bool
	number int64 // of the line
	at     time.Time
}

// newKin knows what the document of a trace says.
func newKin(hits []*event.Hit, t *event.Trace) *kin {
	k := &kin{forks: map[int]fork{}, seen: map[int]bool{}, traced: t.Process.PID, last: sent(hits[len(hits)-1])}
	if p := hits[0].Process; p != nil {
		k.sender = p.PID
	} else {
		k.sender = k.traced
	}
	if back := t.Culprit.LookBack; back != nil {
		k.processes = map[int]bool{k.sender: true}
		for _, p := range back.Parents {
			k.processes[p.PID] = true
		}
	}
	return k
}

// learn finds out from a line who started whom.
func (k *kin) learn(l *line) {
	if len(k.seen) < maxForks {
		k.seen[l.tid] = true
	}
	if k.processes != nil {
		return
	}
	tid, thread, ok := l.forked()
	old, known := k.forks[tid]
	switch {
	case !ok, known && !old.at.After(k.last) && l.at.After(k.last): // the TID is another's by then
		return
	case !known && len(k.forks) >= maxForks:
		k.full = true
	default:
		k.forks[tid] = fork{l.tid, thread, l.number, l.at}
	}
}

// forked reads a clone, clone3, fork or vfork.
func (l *line) forked() (tid int, thread, ok bool) {
	switch l.name {
	case "clone", "clone3", "fork", "vfork":
		n := l.returned()
		return int(n), bytes.Contains(l.text, []byte("CLONE_THREAD")), n > 0
	}
	return 0, false, false
}

// process returns the thread that stands for all of a process. A thread without a fork was there when
// strace attached, to one process and all its threads.
func (k *kin) process(tid int) int {
	for range maxForks {
		f, ok := k.forks[tid]
		switch {
		case !ok && (k.full || tid == k.sender):
			return tid
		case !ok:
			return k.traced
		case !f.thread:
			return tid
		}
		tid = f.parent
	}
	return tid
}

// is returns what the thread of a line is to the sender.
func (k *kin) is(tid int, number int64) relation {
	if k.processes != nil {
		if tid != k.sender && k.processes[tid] {
			return ancestor
		}
		return itself
	}
	its := k.process(tid)
	if its == k.leader {
		return itself
	}
	const deepest = 64
	for at, depth := k.leader, 0; depth < deepest; depth++ {
		f, ok := k.forks[at]
		if !ok {
			break
		}
		if at = k.process(f.parent); at == its {
			if number <= f.number {
				return ancestor
			}
			return stranger
		}
	}
	for at, depth := its, 0; depth < deepest; depth++ {
		f, ok := k.forks[at]
		if !ok {
			break
		}
		if at = k.process(f.parent); at == k.leader {
			return child
		}
	}
	return stranger
}

// started says what a call started, and what several such calls do: a thread, or a process. A look-back does not show the flags of
// clone3. But of a process that the sender started it has no lines.
func (t *teller) started(l *line, tid int, thread bool) (one, several string) {
	k := l.from.kin
	switch {
	case thread, slices.ContainsFunc(t.sources, func(s *source) bool { return s.seen[tid] && s.is(tid, l.number) == itself && tid != k.sender }):
		return "thread", "threads"
	case k.processes != nil && !k.processes[tid] && l.name == "clone3":
		return "process or thread", "processes or threads"
	}
	return "process", "processes"
}

// sent returns when the packet of a hit was sent, as well as we know.
func sent(h *event.Hit) time.Time {
	if s := h.Culprit.Sent; s != nil {
		return s.Timestamp
	}
	return h.Timestamp
}
