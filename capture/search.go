package capture

import (
	"time"

	"culprit/capture/finder"
	"culprit/internal/event"
	"culprit/internal/proc"
)

// rescanEvery is how often at most a campaign looks for processes that found no free
// strace.
const rescanEvery = time.Second

// search is what a campaign asks of the finder.
type search struct {
	scans int   // how often all processes are to be looked at
	first []int // PIDs to look at first: all senders, the finder knows which are new
	// starved says that processes were refused for want of a free strace, and rescanned
	// when those were last looked for.
	starved   bool
	rescanned time.Time
}

// rescan decides whether to look again for processes that found no free strace.
func (s *search) rescan(now time.Time) bool {
	if !s.starved || now.Before(s.rescanned.Add(rescanEvery)) {
		return false
	}
	s.starved, s.rescanned = false, now
	s.scans++
	return true
}

// next is when rescan may decide for it, the zero time if that is not to be expected.
func (s *search) next() time.Time {
	if !s.starved {
		return time.Time{}
	}
	return s.rescanned.Add(rescanEvery)
}

// target is what the finder is to look for: in process scope the trees of these roots.
func (s *search) target(roots map[proc.ID]bool) finder.Target {
	return finder.Target{Roots: roots, Scans: s.scans, First: s.first}
}

// maxSenders bounds the processes whose first hit a campaign remembers.
const maxSenders = 1000

// senders are the hits of a campaign, by the processes that are known to have sent them.
type senders struct {
	first  map[proc.ID]*event.Hit // the first of each process
	latest *event.Hit             // of all; nil in a capture by hand
}

// add remembers a hit and returns those of its senders that are new.
func (s *senders) add(h *event.Hit, ids []proc.ID) (added []proc.ID) {
	s.latest = h
	for _, id := range ids {
		if s.first[id] == nil && len(s.first) < maxSenders {
			s.first[id] = h
			added = append(added, id)
		}
	}
	return added
}

// has reports whether a process is known to have sent a hit.
func (s *senders) has(id proc.ID) bool { return s.first[id] != nil }

// hit returns the hit that a trace of the process belongs to: its own first one where
// it is known to have sent any, otherwise the latest. It is nil in captures by hand.
func (s *senders) hit(id proc.ID) *event.Hit {
	if h := s.first[id]; h != nil {
		return h
	}
	return s.latest
}

// roots are the senders.
func (s *senders) roots() map[proc.ID]bool {
	roots := map[proc.ID]bool{}
	for id := range s.first {
		roots[id] = true
	}
	return roots
}
