package lookback

import (
	"cmp"
	"slices"

	"culprit/internal/proc"
)

// role is what a process is in a story: the sender, its parent (1), and so on.
type role struct{ story, nth int }

// gathering is a story whose calls are being collected.
type gathering struct {
	lists [][]Event // by role
	size  int
}

// collect takes the calls of each sender, and of its parents until their child had started.
func (r *Recorder) collect(stories []*Story, senders []Sender) {
	roles := map[proc.ID][]role{}
	gathered := make([]gathering, len(stories))
	after := senders[0].After
	for i, s := range stories {
		for n, id := range s.Processes {
			roles[id] = append(roles[id], role{i, n})
		}
		gathered[i].lists = make([][]Event, len(s.Processes))
		after = min(after, senders[i].After)
	}
	d := decoder{calls(), compatCalls(), r.ring.config.Strings}
	of := func(b []byte) []role { return roles[processOf(b)] }
	pass := new(Story)
	r.walk(pass, after, func(b []byte) bool { return of(b) != nil }, func(b []byte) {
		e, ok := d.decode(b)
		if !ok {
			return
		}
		for _, role := range of(b) {
			s, g := stories[role.story], &gathered[role.story]
			if e.At > s.Until || e.At <= senders[role.story].After || role.nth > 0 && !r.before(&e, s.Processes[role.nth-1]) {
				continue
			}
			if g.size += len(b); g.size > maxStoryBytes {
				s.LeftOut++
				continue
			}
			g.lists[role.nth] = append(g.lists[role.nth], e)
		}
	})
	for i, s := range stories {
		s.Overwritten = pass.Overwritten
		for n, list := range gathered[i].lists {
			slices.SortStableFunc(list, byTime)
			most := maxOfParent
			if n == 0 {
				most = maxOwn
			}
			s.Events = append(s.Events, s.latest(list, most)...)
		}
		slices.SortStableFunc(s.Events, byTime)
	}
}

// before reports whether a parent made a call before its child started. The call that started it may
// return later.
func (r *Recorder) before(e *Event, child proc.ID) bool {
	return e.At+r.boot <= (child.Start+1)*perTick || e.form == fork && e.Result == int64(child.PID)
}

func byTime(a, b Event) int { return cmp.Compare(a.At, b.At) }

// latest drops the oldest of too many calls, but not those that say what the program is.
func (s *Story) latest(list []Event, most int) []Event {
	over := len(list) - most
	if over <= 0 {
		return list
	}
	return slices.DeleteFunc(list, func(e Event) bool {
		drop := over > 0 && e.form != start && e.form != startAt
		if drop {
			over--
			s.LeftOut++
		}
		return drop
	})
}

// horizon returns since when nothing is missing.
func (r *Recorder) horizon() (at uint64, turned bool) {
	at = r.since
	for cpu := range r.ring.cpuCount {
		started := r.ring.state(cpu, stateStarted)
		if started <= uint64(r.ring.segments) {
			continue
		}
		turned = true
		oldest := r.ring.at(cpu, started+1) // the one to be overwritten next
		at = max(at, load(oldest, segmentHeader+recTime))
	}
	return at, turned
}

// walk calls look with a copy of each record that look wants, oldest first on each processor. It may
// leave out what is not after the given time.
func (r *Recorder) walk(s *Story, after uint64, wants func([]byte) bool, look func([]byte)) {
	for cpu := range r.ring.cpuCount {
		last, first := r.ring.state(cpu, stateStarted), uint64(1)
		if n := uint64(r.ring.segments); last > n {
			first = last - n + 1
		}
		for ordinal := first; ordinal <= last; ordinal++ {
			if ordinal < last && r.ring.beginsBefore(cpu, ordinal+1, after) {
				continue
			}
			records, ok := r.ring.copy(cpu, ordinal, wants)
			if !ok {
				s.Overwritten++
				continue
			}
			for _, b := range records {
				look(b)
			}
		}
	}
}
