package sets

import (
	"bytes"
	"maps"
	"slices"
	"time"

	"culprit/internal/config"
)

// The bounds of a book.
const (
	maxSets    = 1000 // known by name, without those that were forgotten
	maxRefused = 32   // names of no set whose refusals are shown
	// maxTries is how often culprit may end while it puts a set in force, before it leaves that set alone.
	maxTries = 3
)

// Accept says what a host takes from its fleet.
type Accept struct{ Rules, Lists bool }

// A Book is what a host knows of its fleet's sets: of each name the newest one that it was given, and the one in force. It
// decides, and does nothing. It is for one goroutine.
type Book struct {
	trust   Trust
	accept  Accept
	entries map[string]*entry
	refused map[string]*Refusal // what came in the place of a set, by the name of the place
}

// An entry is what a host knows of one name. It is kept on disk.
type entry struct {
	newest, inForce   *Set // inForce may be nil
	newestAs, forceAs Signed

	// before was in force when culprit ended, if that was not newest. It is put in force first.
	before   *Set
	beforeAs Signed

	refused *Refusal // why newest is not in force
	// over says that the host's clock has been past the end of newest.
	over bool
	// forever says that a version had no end: then the name is never forgotten, or the version could be brought back.
	forever bool
	waits   string // why its lists are not there
	tries   int    // begun, and not ended, to put newest in force
}

// NewBook makes an empty book.
func NewBook(t Trust, a Accept) *Book {
	return &Book{trust: t, accept: a, entries: map[string]*entry{}, refused: map[string]*Refusal{}}
}

// Offer takes a set that was verified ([Trust.Verify]). It reports whether the set is news. What is older than the newest set of its name,
// or differs from it with the same version, is refused. One that would be forgotten at once is passed over.
func (b *Book) Offer(as Signed, s *Set, now time.Time) (news bool, why *Refusal) {
	e := b.entries[s.Name]
	if e == nil && s.LongOver(now) {
		delete(b.refused, s.Name)
		return false, nil
	}
	if upTo := b.ended(s.Name); s.Version <= upTo && (e == nil || s.Version > e.newest.Version) {
		if !s.Withdrawn {
			return false, refuse(CodeReplayed, "version %d was offered, and all up to version %d were taken back: sign it again, with a higher version", s.Version, upTo)
		}
		delete(b.refused, s.Name)
		return false, nil
	}
	if e == nil {
		b.forget(now)
		if len(b.entries) >= maxSets && s.Ended == nil {
			return false, refuse(CodeTooMany, "this host knows %d sets already", maxSets)
		}
		e = &entry{}
		b.entries[s.Name] = e
	}
	if e.newest != nil {
		switch {
		case s.Version < e.newest.Version:
			return false, refuse(CodeReplayed, "version %d was offered after version %d: somebody has put an old one back", s.Version, e.newest.Version)
		case s.Version == e.newest.Version && !bytes.Equal(as.Set, e.newestAs.Set):
			return false, refuse(CodeReplayed, "two sets were signed with version %d: sign again, with a higher one", s.Version)
		case s.Version == e.newest.Version:
			delete(b.refused, s.Name)
			return false, nil
		}
		for name, version := range e.newest.Ended {
			if s.Ended[name] < version {
				return false, refuse(CodeReplayed, "it does not say that version %d of the set %s was taken back, as version %d did: sign it again, with all", version, name, e.newest.Version)
			}
		}
	}
	delete(b.refused, s.Name)
	e.newest, e.newestAs, e.refused, e.over, e.waits, e.tries = s, as, nil, false, "", 0
	e.forever = e.forever || s.Expires.IsZero()
	return true, nil
}

// Refuse notes that what stands in the place of a set was refused before it was offered. It reports whether that is news.
func (b *Book) Refuse(name string, why *Refusal) (news bool) {
	before, known := b.refused[name]
	switch {
	case known && *before == *why:
		return false
	case !known && b.entries[name] == nil && len(b.refused) >= maxRefused:
		return false // others may fill the servers with names; those that are known are told in any case
	}
	b.refused[name] = why
	return true
}

// Gone notes that a place is empty. It reports whether a set that is not over stood there: it stays as it is, because nobody has signed
// that.
func (b *Book) Gone(name string) (warn bool) {
	delete(b.refused, name)
	e := b.entries[name]
	return e != nil && !e.newest.Withdrawn && !e.over && e.newest.Version > b.ended(name)
}

// A Step is a change of what is in force.
type Step struct {
	Name string
	Set  *Set // to be put in force; nil: what is in force is to be taken back
	Was  *Set // in force until then; nil: none
}

// Steps says what is to be changed: what is over is taken back, what is new is put in force, if its lists are there. Sets that were
// refused are tried again if that is asked for: something else has changed.
func (b *Book) Steps(now time.Time, ready func(*Set) bool, again bool) (steps []Step) {
	for _, name := range b.Names() {
		e := b.entries[name]
		back := Step{Name: name, Was: e.inForce}
		switch state := b.judge(e, now); {
		case e.inForce != nil && (state.ends() || e.inForce.Version <= b.ended(name) || !b.fits(e.inForce) || e.inForce.Expired(now)):
			steps = append(steps, back)
		case state == StateInForce, state.ends():
		case e.before != nil && e.before.Version > b.ended(name) && e.tries < maxTries && b.fits(e.before) && !e.before.Expired(now) && ready(e.before):
			steps = append(steps, Step{Name: name, Set: e.before})
		case state == StateRefused && (!again || b.lasting(e) != nil):
			// The version before it stays in force.
		case ready(e.newest):
			steps = append(steps, Step{Name: name, Set: e.newest, Was: e.inForce})
		}
	}
	// What is taken back may make room for what is put in force.
	slices.SortStableFunc(steps, func(x, y Step) int { return rank(x) - rank(y) })
	return steps
}

func rank(s Step) int {
	switch {
	case s.Set == nil:
		return 0
	case s.Was != nil:
		return 1
	}
	return 2
}

// judge says what is to become of the newest set of an entry.
func (b *Book) judge(e *entry, now time.Time) State {
	e.over = e.over || e.newest.Expired(now)
	switch {
	case e.newest.Ended != nil:
		return StateInForce
	case e.newest.Withdrawn, e.newest.Version <= b.ended(e.newest.Name):
		return StateWithdrawn
	case e.over:
		return StateExpired
	case !e.newest.For(b.trust.Host):
		return StateElsewhere
	case e.inForce != nil && e.inForce.Version == e.newest.Version:
		return StateInForce
	}
	if why := b.lasting(e); why != nil {
		e.refused = why
	}
	if e.refused != nil {
		return StateRefused
	}
	return StateWaiting
}

// lasting returns why a set is refused whatever else changes.
func (b *Book) lasting(e *entry) *Refusal {
	if e.tries >= maxTries {
		return refuse(CodeFailed, "culprit ended %d times while it put this in force: look at its log, and sign another version", e.tries)
	}
	return b.accepted(e.newest)
}

// fits reports whether a set that is in force may be.
func (b *Book) fits(s *Set) bool { return s.For(b.trust.Host) && b.accepted(s) == nil }

func (b *Book) accepted(s *Set) *Refusal {
	switch {
	case len(s.Rules) > 0 && !b.accept.Rules:
		return refuse(CodeUnaccepted, "it has rules, and fleet.accept of this host does not have rules")
	case len(s.Lists) > 0 && !b.accept.Lists:
		return refuse(CodeUnaccepted, "it has lists, and fleet.accept of this host does not have lists")
	}
	return nil
}

// Missing returns the sets that would be put in force if their lists were there.
func (b *Book) Missing(now time.Time, ready func(*Set) bool) (all []*Set) {
	for _, name := range b.Names() {
		e := b.entries[name]
		if state := b.judge(e, now); (state == StateWaiting || state == StateRefused && b.lasting(e) == nil) && !ready(e.newest) {
			all = append(all, e.newest)
		}
	}
	return all
}

// Try notes that a step is about to be taken. If culprit ends now, the book says so later.
func (b *Book) Try(s Step) {
	if e := b.entries[s.Name]; e != nil && s.Set != nil {
		e.tries++
	}
}

// Settle notes what has become of a step: it was taken, or refused.
func (b *Book) Settle(s Step, why *Refusal) {
	e := b.entries[s.Name]
	switch {
	case e == nil:
	case s.Set == nil && why == nil:
		e.inForce, e.forceAs = nil, Signed{}
	case s.Set != nil && s.Set == e.before:
		if why == nil {
			e.inForce, e.forceAs = e.before, e.beforeAs
		}
		e.before, e.beforeAs, e.tries = nil, Signed{}, 0
	case s.Set != nil && s.Set == e.newest:
		e.refused, e.tries = why, 0
		if why == nil {
			e.inForce, e.forceAs = e.newest, e.newestAs
		}
	}
}

// Back notes that a set in force had to go, and why: the configuration of the host has changed.
func (b *Book) Back(s *Set, why *Refusal) {
	e := b.entries[s.Name]
	if e == nil || e.inForce != s {
		return
	}
	e.inForce, e.forceAs = nil, Signed{}
	if e.newest == s {
		e.refused = why
	}
}

// Fetched notes that the lists of a set are there, or why they are not. It reports whether that is news.
func (b *Book) Fetched(s *Set, err error) (news bool) {
	e := b.entries[s.Name]
	if e == nil || e.newest != s {
		return err == nil // of the version before it
	}
	why := ""
	if err != nil {
		why = err.Error()
	}
	news = err == nil || e.waits != why
	e.waits = why
	return news
}

// Conflict returns why a set cannot stand beside the rules of a host and other sets: they have rules of the same name.
func Conflict(local []config.Rule, others []*Set, s *Set) *Refusal {
	for _, r := range s.Rules {
		same := func(o config.Rule) bool { return o.Name == r.Name }
		if slices.ContainsFunc(local, same) {
			return refuse(CodeConflict, "the configuration of this host has a rule %s of its own", r.Name)
		}
		for _, o := range others {
			if slices.ContainsFunc(o.Rules, same) {
				return refuse(CodeConflict, "the set %s, which is in force, has a rule %s, too", o.Name, r.Name)
			}
		}
	}
	return nil
}

// InForce returns the sets in force, by name.
func (b *Book) InForce() (all []*Set) {
	for _, name := range b.Names() {
		if s := b.entries[name].inForce; s != nil {
			all = append(all, s)
		}
	}
	return all
}

// Names returns the names of the sets that are known.
func (b *Book) Names() []string { return slices.Sorted(maps.Keys(b.entries)) }
