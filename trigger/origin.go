package trigger

import (
	"fmt"
	"slices"
	"time"

	"culprit/internal/container"
	"culprit/internal/event"
	"culprit/internal/proc"
)

// busyBacklog is how many packets may wait before we stop searching for origins. A search reads
// much of /proc, and in a flood its answer would come too late.
const busyBacklog = 64

// restFactor bounds the searches for candidates to a tenth of a processor: the next one must
// wait this many times as long as the last one took. A guess is not worth more, as straces may
// be waiting for the processor.
const restFactor = 9

// maxCandidates bounds the described processes: those that hold the socket, or else those of
// the user. There can be thousands of either.
const maxCandidates = 8

// originFinder finds the process that sent a packet: sock_diag gives the socket for the
// addresses of the packet, /proc/PID/fd gives the processes that hold it. It belongs to one
// goroutine.
type originFinder struct {
	fs         proc.FS
	users      *proc.Users
	containers *container.Containers
	sockets    *sockets
	served     *served
	described  described
	recent     []int // recent holders and candidates, the latest last
	// nextGuess is when the next search for candidates may begin.
	nextGuess time.Time
}

func newOriginFinder(fs proc.FS, users *proc.Users) (*originFinder, error) {
	s, err := openSockets()
	if err != nil {
		return nil, err
	}
	c := container.New(fs)
	return &originFinder{fs: fs, users: users, containers: c, sockets: s, served: newServed(fs, users, c), described: described{}}, nil
}

func (f *originFinder) close() { f.sockets.close() }

// find sets the hit's origin, process and container.
func (f *originFinder) find(h *event.Hit, in nflogPacket, backlog int) {
	origin := &h.Culprit.Origin
	origin.Grade = event.GradeNone
	if backlog > busyBacklog {
		origin.Reason = &event.Unattributed{Code: event.UnattributedFlood}
		return
	}
	var all []int
	holders, why := f.holders(h, in, &all)
	if all, more := f.describe(oldestSecond(holders)); len(all) > 0 {
		origin.Grade, origin.More = event.GradeSocket, more
		h.Process, origin.Processes = &all[0], all[1:]
		if id, ok := proc.ParseID(h.Process.EntityID); ok {
			f.locate(h, id)
			h.Culprit.Serves = f.served.of(id)
		}
		if len(all) > 1 { // somebody else may have sent it
			h.Within, h.Located = f.within(holders)
		}
		return
	}
	origin.Reason = why
	if in.uid == nil {
		return
	}
	began := time.Now()
	if began.Before(f.nextGuess) {
		origin.Unlisted = true
		return
	}
	defer func() { f.nextGuess = time.Now().Add(restFactor * time.Since(began)) }()
	candidates := f.ofUser(*in.uid, &all)
	if len(candidates) == 0 {
		return
	}
	h.Within, h.Located = f.within(candidates)
	if len(candidates) > maxCandidates {
		origin.More = len(candidates) - maxCandidates
		candidates = candidates[len(candidates)-maxCandidates:]
	}
	f.remember(candidates...)
	if origin.Processes, _ = f.describe(candidates); len(origin.Processes) > 0 {
		origin.Grade = event.GradeCandidates
	}
}

// within returns the containers that all of the processes are in, and false if that is not known or they
// are not in the same ones.
func (f *originFinder) within(pids []int) (ids []string, ok bool) {
	const most = 64
	if len(pids) > most {
		return nil, false
	}
	for i, pid := range pids {
		in, there := f.containers.Within(pid)
		if !there || i > 0 && !slices.Equal(in, ids) {
			return nil, false
		}
		ids = in
	}
	return ids, len(pids) > 0
}

// oldestSecond takes processes sorted youngest first, and moves the oldest to the second place.
// The oldest of many processes that share a socket opened it, and the others are its children.
// Most likely the youngest sent the packet.
func oldestSecond(pids []int) []int {
	if len(pids) < 3 {
		return pids
	}
	oldest := len(pids) - 1
	return slices.Insert(slices.Clone(pids[:oldest]), 1, pids[oldest])
}

// holders finds the processes that hold the packet's socket, youngest first, or says why it
// found none. It lists /proc into all if it needs to.
func (f *originFinder) holders(h *event.Hit, in nflogPacket, all *[]int) (pids []int, why *event.Unattributed) {
	sockets, why := f.sockets.of(h, in)
	if why != nil {
		return nil, why
	}
	holds := func(pid int) bool {
		return slices.ContainsFunc(sockets, func(inode uint64) bool { return f.fs.HoldsSocket(pid, inode) })
	}
	if len(sockets) == 1 {
		for _, pid := range slices.Backward(f.recent) {
			if holds(pid) {
				f.recent = append(slices.DeleteFunc(f.recent, func(p int) bool { return p == pid }), pid)
				return []int{pid}, nil
			}
		}
	}
	list(f.fs, all)
	// Most likely the sender is young and belongs to the packet's user.
	var others []int
	for _, pid := range slices.Backward(*all) {
		if owner, err := f.fs.Owner(pid); err != nil || owner != *in.uid {
			others = append(others, pid)
		} else if holds(pid) {
			pids = append(pids, pid)
		}
	}
	if len(pids) == 0 {
		// Before searching all others, check that the sockets still exist.
		if again, _ := f.sockets.of(h, in); !slices.Equal(again, sockets) {
			return nil, &event.Unattributed{Code: event.UnattributedClosed}
		}
	}
	if len(pids) == 0 || len(sockets) > 1 {
		for _, pid := range others {
			if holds(pid) {
				pids = append(pids, pid)
			}
		}
	}
	if len(pids) == 0 {
		return nil, &event.Unattributed{Code: event.UnattributedNobody, Detail: fmt.Sprint(sockets[0])}
	}
	f.remember(pids...)
	// Several sockets on a port name a process only if it holds them all.
	if len(sockets) > 1 && (len(pids) > 1 || !f.holdsAll(pids[0], sockets)) {
		return nil, &event.Unattributed{Code: event.UnattributedShared}
	}
	return pids, nil
}

func (f *originFinder) holdsAll(pid int, sockets []uint64) bool {
	return !slices.ContainsFunc(sockets, func(inode uint64) bool { return !f.fs.HoldsSocket(pid, inode) })
}

// remember notes processes that are likely to hold the socket of the next packet, which may be
// open for less than a millisecond: too short to search all of /proc.
func (f *originFinder) remember(pids ...int) {
	const most = 16
	for _, pid := range pids {
		if !slices.Contains(f.recent, pid) {
			f.recent = append(f.recent, pid)
		}
	}
	f.recent = f.recent[max(0, len(f.recent)-most):]
}

// ofUser lists the processes of a UID, oldest first.
func (f *originFinder) ofUser(uid uint32, all *[]int) []int {
	list(f.fs, all)
	var pids []int
	for _, pid := range *all {
		if owner, err := f.fs.Owner(pid); err != nil || owner != uid && owner != 0 {
			continue // a process of root's may be the user's, others cannot
		}
		if _, err := f.fs.Executable(pid); err != nil {
			continue // a kernel thread; there are many
		}
		if f.is(pid, uid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func (f *originFinder) is(pid int, uid uint32) bool {
	s, err := f.fs.Status(pid)
	return err == nil && s.Of(uid)
}

// describe describes the processes that still exist, at most maxCandidates, and returns the
// number that it left out.
func (f *originFinder) describe(pids []int) (ps []event.Process, more int) {
	for i, pid := range pids {
		if len(ps) == maxCandidates {
			return ps, len(pids) - i
		}
		if p, err := f.fs.Describe(pid, f.users); err == nil {
			ps = append(ps, p)
		}
	}
	return ps, 0
}

// list lists /proc, once for each hit.
func list(fs proc.FS, all *[]int) {
	if *all == nil {
		*all, _ = fs.PIDs()
		slices.Sort(*all)
	}
}
