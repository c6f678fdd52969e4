package finder

import (
	"time"

	"culprit/internal/event"
)

// How often /proc is polled for new PIDs, and every how many polls all processes
// are looked at, because they may have become the UID.
const (
	pollEvery   = 10 * time.Millisecond
	pollAllEach = 50
)

// poll looks at processes that were not there the last time, and now and then at
// all of them. That a known one has ended shows by its absence.
func (f *Finder) poll(s *source) {
	scan := Scan{Alive: map[int]bool{}, Began: time.Now()}
	pids, err := f.fs.PIDs()
	if err != nil {
		f.log.Error("cannot list processes", "error", err)
		return
	}
	s.polled++
	all := s.polled%pollAllEach == 0
	for _, pid := range pids {
		scan.Alive[pid] = true
		if all || !s.seen[pid] {
			f.look(pid, event.FoundPoll, anyUID)
		}
	}
	s.seen = scan.Alive
	if f.forget(scan.Alive) > 0 {
		f.out.Scanned(scan)
	}
}

// forget drops the known processes that are not alive, and returns how many.
func (f *Finder) forget(alive map[int]bool) (gone int) {
	for pid := range f.known {
		if !alive[pid] {
			delete(f.known, pid)
			gone++
		}
	}
	return gone
}
