package capture

import (
	"cmp"
	"time"

	"culprit/capture/finder"
	"culprit/internal/config"
	"culprit/internal/event"
	"culprit/internal/proc"
)

// rescanEvery is how often a campaign may look again for the processes that it refused for
// want of a free strace.
const rescanEvery = time.Second

// search is what a campaign asks of the finder.
type search struct {
	scans int   // counts the scans of all processes
	first []int // PIDs to look at before that: all senders, the finder knows which are new
	// starved says that processes were refused for want of a free strace since it was last
	// looked for such, which was at rescanned.
	starved   bool
	rescanned time.Time
}

// rescan decides whether to look again for processes that were refused for want of a free
// strace, and reports whether it did.
func (cam *campaign) rescan(now time.Time, free func() bool) bool {
	s := &cam.search
	if !s.starved || !cam.isRunning() || now.Before(s.next()) || !free() {
		return false
	}
	s.starved, s.rescanned = false, now
	s.scans++
	return true
}

// next is when the campaign may rescan again.
func (s *search) next() time.Time { return s.rescanned.Add(rescanEvery) }

// target is what the finder is to look for.
func (cam *campaign) target() finder.Target {
	t := finder.Target{Scans: cam.search.scans, First: cam.search.first}
	if cam.doc.Culprit.Scope == config.ScopeProcess {
		t.Roots = map[proc.ID]bool{}
		for id := range cam.senders.first {
			t.Roots[id] = true
		}
	}
	return t
}

// maxSenders bounds the processes whose first hits a campaign remembers.
const maxSenders = 1000

// senders are the processes that are known to have sent hits of a campaign.
type senders struct {
	first  map[proc.ID]*event.Hit // the first hit of each
	latest *event.Hit             // whoever sent it; nil in a capture by hand
}

// add remembers a hit, and returns those of its senders that are new.
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

// hit returns the hit that a trace of the process belongs to: the first that it sent, or
// the latest of all if it is not known to have sent any. It is nil in a capture by hand.
func (s *senders) hit(id proc.ID) *event.Hit { return cmp.Or(s.first[id], s.latest) }
