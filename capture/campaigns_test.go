package capture

import (
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"culprit/capture/finder"
	"culprit/internal/config"
	"culprit/internal/event"
	"culprit/internal/proc"
	"culprit/internal/strace"
)

// deciding is a controller whose Run does not run: a test calls what handles its messages.
func deciding(scope string) (*Controller, *memory) {
	m := &memory{captures: map[string]event.Capture{}, traces: map[string]event.Trace{}}
	cfg := config.Default()
	cfg.Capture.Scope = scope
	return New(&cfg, strace.Program{}, m, nil, nil, slog.New(slog.DiscardHandler)), m
}

// from is a hit of a user whose sender was within these containers.
func from(uid int, within ...string) hit {
	h := &event.Hit{Event: event.Meta{ID: event.NewID()}, User: &event.User{ID: fmt.Sprint(uid)}, Located: true, Within: within}
	if len(within) > 0 && uid != 34 { // his claims to be in another one, or nobody knows it
		h.Container = &event.Container{ID: within[len(within)-1]}
	}
	return hit{h}
}

func pair(uid uint32, container string) Owner { return Owner{UID: uid, Container: container} }

// A user in a container is not that user in another one, nor on the host.
func TestCaptureIsOfThePair(t *testing.T) {
	t.Parallel()
	unlocated := hit{&event.Hit{Event: event.Meta{ID: event.NewID()}, User: &event.User{ID: "33"}}}
	for _, tt := range []struct {
		name  string
		scope string
		hits  []hit
		want  []Owner
	}{
		{
			"two containers and the host", config.ScopeUser,
			[]hit{from(33, "a"), from(33, "b"), from(33), from(33, "a"), from(34, "a")},
			[]Owner{pair(33, "a"), pair(33, "b"), pair(33, finder.Host), pair(34, "a")},
		},
		{"a container within a container", config.ScopeUser, []hit{from(33, "a", "b"), from(33, "a")}, []Owner{pair(33, "b"), pair(33, "a")}},
		{"the outer one covers the inner one", config.ScopeUser, []hit{from(33, "a"), from(33, "a", "b")}, []Owner{pair(33, "a")}},
		{
			"whole containers", config.ScopeContainer,
			[]hit{from(33, "a"), from(0, "a"), from(34, "a"), from(33)},
			[]Owner{pair(finder.AnyUser, "a"), pair(33, finder.Host)},
		},
		{"nobody looked where it was", config.ScopeUser, []hit{unlocated, from(33, "a"), from(33)}, []Owner{pair(33, finder.Anywhere)}},
		{"nobody looked where it was, and the host is captured", config.ScopeUser, []hit{from(33), unlocated}, []Owner{pair(33, finder.Host)}},
		{"root of a container without a known process", config.ScopeUser, []hit{from(0, "a")}, nil},
	} {
		c, m := deciding(tt.scope)
		for _, h := range tt.hits {
			h.handle(c)
		}
		if len(c.campaigns) != len(tt.want) {
			t.Errorf("%s: %d captures", tt.name, len(c.campaigns))
		}
		for _, owner := range tt.want {
			cam := c.campaigns[owner]
			if cam == nil {
				t.Errorf("%s: no capture of %+v", tt.name, owner)
				continue
			}
			doc := m.captures[cam.doc.Event.ID]
			if in := doc.Container != nil; in != owner.InContainer() || in && doc.Container.ID != owner.Container {
				t.Errorf("%s: %+v is recorded in %+v", tt.name, owner, doc.Container)
			}
			if doc.Culprit.Anywhere != (owner.Container == finder.Anywhere) {
				t.Errorf("%s: %+v: anywhere is %v", tt.name, owner, doc.Culprit.Anywhere)
			}
		}
	}
}

// A program that the kernel or the gate holds is traced if its pair is captured. The same user's in another
// container, or on the host, goes on at once.
func TestHeldInAnotherContainer(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		within []string
		missed bool // the capture knows of it
	}{{[]string{"a"}, true}, {[]string{"a", "c"}, true}, {[]string{"b"}, false}, {nil, false}} {
		c, _ := deciding(config.ScopeUser)
		gate := new(goes)
		c.gate = gate
		from(33, "a").handle(c)
		m := held{within: tt.within}
		m.found = found{hold: 7, Process: finder.Process{ID: proc.ID{PID: 5, Start: 6}, UID: 33, How: event.FoundGate, Forbidden: &event.Untraced{Code: event.UntracedInit}}}
		m.handle(c)
		if !slices.Equal(gate.numbers, []uint64{7}) {
			t.Errorf("%v: let go %v", tt.within, gate.numbers)
		}
		if cam := c.campaigns[pair(33, "a")]; cam.missed.has(m.ID) != tt.missed {
			t.Errorf("%v: the capture knows the process: %v", tt.within, !tt.missed)
		}
	}
}

// Neither one user in many containers nor one container with many users takes all captures; and those of
// the host always have some left.
func TestShareOfCaptures(t *testing.T) {
	t.Parallel()
	c, m := deciding(config.ScopeUser)
	count := func(hits func(i int) hit) (started int) {
		before := len(c.campaigns)
		for i := range maxCaptures {
			hits(i).handle(c)
		}
		return len(c.campaigns) - before
	}
	if n := count(func(i int) hit { return from(33, fmt.Sprint("c", i)) }); n != maxCaptures/2 {
		t.Errorf("one user in many containers has %d captures", n)
	}
	why := m.hits[len(m.hits)-1].Culprit.NoCapture
	if why == nil || why.Code != event.NoCaptureContainers || why.Detail != "250" {
		t.Errorf("beyond: %+v", why)
	}
	if n := count(func(i int) hit { return from(1000+i, "one") }); n != maxCaptures/4 {
		t.Errorf("many users in one container, beside that, have %d captures", n)
	}
	if n := count(func(i int) hit { return from(33 + i) }); n != maxCaptures/4 {
		t.Errorf("the host has %d captures", n)
	}
}

// The same holds for straces.
func TestShareOfStraces(t *testing.T) {
	t.Parallel()
	cs := campaigns{}
	add := func(owner Owner, straces int) *campaign {
		cam := newCampaign(owner, event.User{}, config.ScopeUser, ladder, 0, time.Time{})
		for i := range straces {
			addTrace(cam, i+1)
		}
		cs[owner] = cam
		return cam
	}
	a := add(pair(33, "a"), 2)
	b := add(pair(33, "b"), 2)
	if cs.hasRoom(a, 4, 8) || cs.hasRoom(b, 4, 8) {
		t.Error("one user has more than a half in containers")
	}
	other := add(pair(34, "c"), 1)
	if !cs.hasRoom(other, 5, 8) {
		t.Error("another user finds nothing")
	}
	addTrace(other, 9)
	if cs.hasRoom(other, 6, 8) {
		t.Error("containers take the last quarter")
	}
	host := add(pair(33, finder.Host), 0)
	if !cs.hasRoom(host, 6, 8) {
		t.Error("the same user on the host finds nothing")
	}
	if only := add(pair(35, "d"), 0); !(campaigns{only.owner: only}).hasRoom(only, 0, 1) {
		t.Error("with one strace nobody in a container is traced")
	}
}

// A process that two captures want is traced by the first; what is learnt of it goes there, and the other one lists it
// as traced.
func TestTwoWantOne(t *testing.T) {
	t.Parallel()
	s := stage(0)
	anywhere := pair(64201, finder.Anywhere)
	other := newCampaign(anywhere, event.User{ID: "64201"}, config.ScopeUser, ladder, 0, time.Now())
	s.c.campaigns[anywhere] = other
	m := s.found(event.FoundExec, "/bin/sh", 8, 1)
	m.Owner = anywhere
	m.handle(s.c)
	if s.c.running != 1 || len(other.traces) != 0 || !slices.Equal(s.trace.holds.attach, []uint64{8}) {
		t.Errorf("%d straces; holds %v", s.c.running, s.trace.holds)
	}
	if l := other.programs.of(m.ID); l == nil || !l.doc.Culprit.Traced {
		t.Errorf("the other capture lists %+v", l)
	}
}

// In a capture of a whole container each process has its own user.
func TestUsersOfContainer(t *testing.T) {
	t.Parallel()
	c, _ := deciding(config.ScopeContainer)
	from(33, "a").handle(c)
	cam := c.campaigns[pair(finder.AnyUser, "a")]
	if cam == nil {
		t.Fatal("no capture")
	}
	cam.seen(finder.Process{ID: proc.ID{PID: 5, Start: 6}, UID: 1000})
	cam.programs.leave()
	if got := cam.programs.changed[0].User.ID; got != "1000" {
		t.Errorf("the program is of %s", got)
	}
	if cam.wantsGate() {
		t.Error("the gate would hold everybody")
	}
	if got := cam.doc.Whose(); got != "all users in a" {
		t.Errorf("the capture is of %q", got)
	}
}
