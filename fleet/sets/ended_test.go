package sets

import (
	"fmt"
	"testing"
	"time"
)

// ended is a version of the set that takes others back.
func ended(version uint64, all map[string]uint64) *Set {
	s := newSet(version)
	s.Name, s.Rules, s.Ended = EndedName, nil, all
	return s
}

// One signed set takes many others back: from a host that was away, whatever it has in force; no version of them comes back, also after
// restarts and when the host has forgotten them, and a later one that does not say the same is refused.
func TestBookEnded(t *testing.T) {
	t.Parallel()
	h := newHost(t, all)
	b := func(version uint64) *Set {
		return with(newSet(version), func(s *Set) { s.Name, s.Rules[0].Name = "b", "b" })
	}
	take := func(s *Set) {
		t.Helper()
		if why := h.offer(s); why != nil {
			t.Errorf("%s: %v", s.ID(), why)
		}
	}
	replayed := func(s *Set) {
		t.Helper()
		if why := h.offer(s); why == nil || why.Code != CodeReplayed {
			t.Errorf("%s is %v, want it replayed", s.ID(), why)
		}
	}
	take(newSet(1))
	take(b(1))
	h.want(h.settle(false), "+a1 +b1")
	take(b(3)) // which is refused, so that the one before stays
	h.want(h.settle(false, "b3"), "!b3")
	h.restart() // with a1 and b1 to be put in force
	take(ended(1, map[string]uint64{"a": 2, "b": 2, "never": 7}))
	h.is("a", 1, StateWithdrawn, 0)
	h.is(EndedName, 1, StateInForce, 1)
	h.want(h.settle(false), "+b3") // but not b1
	h.restart()
	h.want(h.settle(false), "+b3")

	// The place of a is empty now; who has the servers puts there what there was.
	if h.book.Gone("a") {
		t.Error("that the place of a set that was taken back is empty is worth a warning")
	}
	for range 2 {
		replayed(newSet(1))
		replayed(newSet(2))
		replayed(with(newSet(7), func(s *Set) { s.Name = "never" }))
		take(withdrawn(2))
		h.want(h.settle(true), "")
		h.is("a", 0, "", 0)
		h.restart()
		h.want(h.settle(true), "+b3")
	}
	replayed(ended(2, map[string]uint64{"a": 2, "b": 2}))
	replayed(ended(2, map[string]uint64{"a": 1, "b": 2, "never": 7}))
	take(ended(3, map[string]uint64{"a": 2, "b": 3, "never": 7}))
	h.want(h.settle(false), "-b3")
	take(newSet(3))
	h.want(h.settle(false), "+a3")

	// It makes room for others.
	for i := range maxSets - len(h.book.entries) {
		take(with(withdrawn(1), func(s *Set) { s.Name = fmt.Sprint("x", i) }))
	}
	fresh := with(newSet(1), func(s *Set) { s.Name = "fresh" })
	if why := h.offer(fresh); why == nil || why.Code != CodeTooMany {
		t.Errorf("one set too many: %v", why)
	}
	names := map[string]uint64{"a": 2, "b": 3, "never": 7}
	for i := range maxSets {
		names[fmt.Sprint("x", i)] = 1
	}
	take(ended(4, names))
	take(fresh)
	if len(h.book.entries) != 3 {
		t.Errorf("%d sets are known, want a, fresh and the one that takes back", len(h.book.entries))
	}
}

// The set that takes others back has nothing else, and no other set has its name or does the same.
func TestEndedRefused(t *testing.T) {
	t.Parallel()
	key, _ := newKey(t)
	for what, s := range map[string]*Set{
		"none":          ended(1, map[string]uint64{}),
		"itself":        ended(1, map[string]uint64{EndedName: 1}),
		"no version":    ended(1, map[string]uint64{"a": 0}),
		"no name":       ended(1, map[string]uint64{"../a": 1}),
		"an end":        with(ended(1, map[string]uint64{"a": 1}), func(s *Set) { s.Expires = s.Created.Add(time.Hour) }),
		"some hosts":    with(ended(1, map[string]uint64{"a": 1}), func(s *Set) { s.Hosts = []string{"web*"} }),
		"rules":         with(ended(1, map[string]uint64{"a": 1}), func(s *Set) { s.Rules = newSet(1).Rules }),
		"withdrawn":     with(ended(1, map[string]uint64{"a": 1}), func(s *Set) { s.Withdrawn = true }),
		"another name":  with(ended(1, map[string]uint64{"a": 1}), func(s *Set) { s.Name = "b" }),
		"a usual set":   with(newSet(1), func(s *Set) { s.Name = EndedName }),
		"its withdrawn": with(withdrawn(1), func(s *Set) { s.Name = EndedName }),
	} {
		if _, err := Sign(s, key); err == nil {
			t.Errorf("%s: it is signed", what)
		}
	}
}
