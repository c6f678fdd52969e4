package metrics

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"culprit/internal/event"
)

// senders counts hits by user and container. Others choose both, so there is a bound for their number, and one for each
// user's: one user cannot take the places of all others.
type senders struct {
	hits *prometheus.CounterVec

	mu    sync.Mutex
	known map[sender]bool
	of    map[string]int // known containers of a user
}

// A sender is a user in a container.
type sender struct{ uid, container string }

const (
	maxSenders       = 256
	maxSendersOfUser = 32 // containers of one user, the host included
)

// Labels of those who are not told apart.
const (
	unknownUser = "unknown" // the kernel gave no UID
	others      = "other"
)

func newSenders(r factory) senders {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "culprit_user_hits_total", Help: "Hits, by UID and container; of too many different ones as other.",
	}, []string{"uid", "container"})
	r.MustRegister(v)
	v.WithLabelValues(others, others)
	return senders{hits: v, known: map[sender]bool{}, of: map[string]int{}}
}

// HitOf counts a hit of a user, who may be nil, in a container, or nil for the host.
func (s *senders) HitOf(u *event.User, c *event.Container) {
	is := sender{uid: unknownUser}
	if u != nil {
		is.uid = u.ID
	}
	switch {
	case c == nil:
	case c.Claimed:
		is.container = claimedContainer // the user made its name up
	default:
		is.container = c.Label()
	}
	is = s.bounded(is)
	s.hits.WithLabelValues(is.uid, is.container).Inc()
}

// bounded returns the sender itself if it has a place or gets one, otherwise who stands for it.
func (s *senders) bounded(is sender) sender {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.known[is]:
		return is
	case len(s.known) >= maxSenders:
		return sender{others, others}
	case s.of[is.uid] >= maxSendersOfUser:
		return sender{is.uid, others}
	}
	s.known[is] = true
	s.of[is.uid]++
	return is
}
