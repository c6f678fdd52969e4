package trigger

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"culprit/internal/event"
	"culprit/internal/words"
	"culprit/sensor"
)

// shares are what senders in other network namespaces may have of nflog.rate. A flood out of one container may take all of it:
// then those who send little still have as much again. What is lost is counted by whose it was.
type shares struct {
	rate       int // hits per second
	all, spare *rate.Limiter
	own        map[sensor.From]*rate.Limiter // what each may have of the spare
	lost       map[loss]uint64               // since the last report
}

type loss struct {
	code event.LossCode
	from sensor.From
}

const (
	maxShares = 4096 // senders that are remembered
	maxLosers = 16   // that are told at a time
	ownPart   = 100  // of nflog.rate each has this part
	ownBurst  = 100  // and so many hits at once
)

func newShares(perSecond int) *shares {
	limit := func() *rate.Limiter { return rate.NewLimiter(rate.Limit(perSecond), 5*perSecond) }
	return &shares{rate: perSecond, all: limit(), spare: limit(), own: map[sensor.From]*rate.Limiter{}, lost: map[loss]uint64{}}
}

// allow reports whether a sender may have a hit.
func (s *shares) allow(from sensor.From, now time.Time) bool {
	own := s.own[from]
	if own == nil {
		if len(s.own) >= maxShares {
			clear(s.own) // each begins again
		}
		own = rate.NewLimiter(rate.Limit(s.rate)/ownPart, min(s.rate, ownBurst))
		s.own[from] = own
	}
	modest := own.AllowN(now, 1) // by all of its hits
	return s.all.AllowN(now, 1) || modest && s.spare.AllowN(now, 1)
}

// lose counts what a sender lost.
func (s *shares) lose(code event.LossCode, from sensor.From, n uint64) {
	if l := (loss{code, from}); s.lost[l] > 0 || len(s.lost) < maxShares {
		s.lost[l] += n
	} else {
		s.lost[loss{code: code}] += n
	}
}

// report tells what was lost, and whose it was of those that lost most. where returns a sender's place, and what to call it.
func (s *shares) report(where func(sensor.From) (event.Place, string), out Output) {
	var all []loss
	rest := map[event.LossCode]uint64{}
	for l, n := range s.lost {
		if l.from == (sensor.From{}) {
			rest[l.code] += n
		} else {
			all = append(all, l)
		}
	}
	slices.SortFunc(all, func(a, b loss) int { return cmp.Compare(s.lost[b], s.lost[a]) })
	for i, l := range all {
		if i >= maxLosers {
			rest[l.code] += s.lost[l]
			continue
		}
		place, name := where(l.from)
		told := event.NewLoss(l.code, name, s.lost[l])
		told.Place = place
		out.Lost(told)
	}
	for code, n := range rest {
		out.Lost(event.NewLoss(code, "", n))
	}
	clear(s.lost)
}

// holders remember which cgroups count as one with all that are in them, and which are in none of such.
type holders struct {
	known map[uint64]bool
	none  map[uint64]time.Time // innermost cgroups, and until when that holds
}

// noneFor is how long nobody looks again whether a cgroup has come to be somebody's: that takes longer than all else that a packet does.
const noneFor = time.Second

func newHolders() holders { return holders{map[uint64]bool{}, map[uint64]time.Time{}} }

// of returns the first of nested cgroups that counts as one, or 0. find looks for it.
func (h holders) of(cgroups []uint64, now time.Time, find func([]uint64) uint64) uint64 {
	if len(cgroups) == 0 {
		return 0
	}
	if i := slices.IndexFunc(cgroups, func(id uint64) bool { return h.known[id] }); i >= 0 {
		return cgroups[i]
	}
	innermost := cgroups[len(cgroups)-1]
	if now.Before(h.none[innermost]) {
		return 0
	}
	if max(len(h.known), len(h.none)) >= maxShares {
		clear(h.known) // each is found again
		clear(h.none)
	}
	holder := find(cgroups)
	if holder == 0 {
		h.none[innermost] = now.Add(noneFor)
	} else {
		h.known[holder] = true
	}
	return holder
}

// from returns whose share a packet takes, and tells the kernel which cgroups are the same sender: all that a container or a user has made
// inside of the one that root gave him.
func (p *processor) from(in nflogPacket) sensor.From {
	holder := p.holders.of(in.other.Cgroups, in.time, p.finder.containers.Holder)
	if holder == 0 {
		return in.other.From()
	}
	_ = p.others.CountAsOne(holder) // otherwise the next packet says it
	return sensor.From{Cgroup: holder}
}

// place returns where a sender's socket was made, and what to call that.
func (p *processor) place(from sensor.From) (event.Place, string) {
	place := p.finder.containers.OfCgroup(from.Cgroup, 0)
	switch {
	case place.Container != nil:
		return place, words.Place(&place)
	case from.Owner != 0:
		user := p.users.User(from.Owner)
		return place, "network namespaces of user " + cmp.Or(user.Name, user.ID)
	case from.Netns == 0:
		return place, "not in a container"
	}
	if name := p.namespaces.name(from.Netns); name != "" {
		return place, "network namespace " + name
	}
	return place, fmt.Sprint("network namespace ", from.Netns)
}
