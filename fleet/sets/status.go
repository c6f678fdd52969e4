package sets

import (
	"maps"
	"slices"
	"time"
)

// A State says what has become of the newest set of a name on a host.
type State string

// The states.
const (
	StateInForce   State = "in_force"
	StateWaiting   State = "waiting" // for its lists
	StateRefused   State = "refused" // the version before it stays in force, if there is one
	StateExpired   State = "expired"
	StateWithdrawn State = "withdrawn"
	StateElsewhere State = "elsewhere" // it is not for this host
)

// States are all of them.
func States() []State {
	return []State{StateInForce, StateWaiting, StateRefused, StateExpired, StateWithdrawn, StateElsewhere}
}

// ends reports whether nothing of the name is to be in force.
func (s State) ends() bool {
	return s == StateExpired || s == StateWithdrawn || s == StateElsewhere
}

// A Status is what a host says of a set.
type Status struct {
	Name    string `json:"name"` // whoever refused a set did not verify it
	Version uint64 `json:"version,omitempty"`
	State   State  `json:"state"`
	Code    Code   `json:"code,omitempty"`   // of a refusal
	Reason  string `json:"reason,omitempty"` // in English
	// InForce is the version in force, 0: none.
	InForce uint64    `json:"in_force,omitempty"`
	Expires time.Time `json:"expires,omitzero"`
}

// The bounds of what a host says of its sets: of so many, those that have ended last, and so many characters of a reason.
const (
	maxStatuses = 100
	maxReason   = 300
)

// Statuses says what has become of all sets, by name. A set whose place holds something that was refused is said to be refused: what stays
// in force is in InForce.
func (b *Book) Statuses(now time.Time) (all []Status) {
	for _, name := range b.Names() {
		e := b.entries[name]
		s := Status{Name: name, Version: e.newest.Version, State: b.judge(e, now), Expires: e.newest.Expires}
		switch {
		case e.inForce != nil:
			s.InForce = e.inForce.Version
		case e.newest.Ended != nil:
			s.InForce = e.newest.Version
		}
		why := e.refused
		if s.State != StateRefused {
			why = nil
		}
		if s.State == StateWaiting && e.waits != "" {
			why = refuse(CodeLists, "%s", e.waits)
		}
		if offered := b.refused[name]; offered != nil {
			s.State, why = StateRefused, offered
		}
		if why != nil {
			s.Code, s.Reason = why.Code, clip(why.Text)
		}
		all = append(all, s)
	}
	for _, name := range slices.Sorted(maps.Keys(b.refused)) {
		if b.entries[name] == nil {
			why := b.refused[name]
			all = append(all, Status{Name: name, State: StateRefused, Code: why.Code, Reason: clip(why.Text)})
		}
	}
	// What has ended is left out first.
	slices.SortStableFunc(all, func(x, y Status) int {
		switch xEnds, yEnds := x.State.ends(), y.State.ends(); {
		case xEnds == yEnds:
			return 0
		case xEnds:
			return 1
		}
		return -1
	})
	return all[:min(len(all), maxStatuses)]
}
