package daemon

import (
	"context"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"culprit/fleet"
	"culprit/fleet/intake"
	"culprit/fleet/sets"
	"culprit/internal/config"
)

// fleetSets are the sets of rules and lists that the host gets from its fleet. The daemon's loop owns them.
type fleetSets struct {
	book   *sets.Book
	dir    sets.Dir
	intake *intake.Intake
	due    *time.Timer
	free   atomic.Int64 // evidence.min_free
	report func([]sets.Status)
	said   []sets.Status // reported last
	log    *slog.Logger
}

// openSets opens what the host knows of the sets of its fleet. It is nil if the host takes nothing from it. What becomes of the sets is
// told to report.
func openSets(c *config.Config, conn *fleet.Conn, report func([]sets.Status), log *slog.Logger) (*fleetSets, error) {
	if conn == nil || len(c.Fleet.Accept) == 0 {
		return nil, nil
	}
	keys, wrong := sets.ParseKeys(c.Fleet.Keys)
	if err := c.Refuse(wrong); err != nil {
		return nil, err
	}
	dir, err := sets.OpenDir(sets.In(c.Evidence.Dir))
	if err != nil {
		return nil, err
	}
	trust := sets.Trust{Fleet: c.Fleet.Name, Host: conn.Host, Keys: keys}
	f := &fleetSets{
		dir: dir, log: log, report: report, due: time.NewTimer(time.Hour),
		book: sets.NewBook(trust, sets.Accept{
			Rules: slices.Contains(c.Fleet.Accept, config.AcceptRules), Lists: slices.Contains(c.Fleet.Accept, config.AcceptLists),
		}),
	}
	f.configured(c)
	f.intake = intake.New(conn, trust, dir, f.free.Load, log)
	dropped, err := dir.Load(f.book, time.Now())
	for name, why := range dropped {
		log.Warn("a set of the fleet was dropped: it is no longer believed", "set", name, "error", why)
	}
	return f, err
}

// configured takes over a configuration that is now in force.
func (f *fleetSets) configured(c *config.Config) {
	if f != nil {
		f.free.Store(int64(c.Evidence.MinFree))
	}
}

// run watches the fleet until the context ends.
func (f *fleetSets) run(ctx context.Context) error {
	if f == nil {
		return nil
	}
	return f.intake.Run(ctx)
}

// news returns what the intake tells; nil if there is none.
func (f *fleetSets) news() <-chan intake.News {
	if f == nil {
		return nil
	}
	return f.intake.News()
}

// ends returns a channel that has an element when a set may have ended.
func (f *fleetSets) ends() <-chan time.Time {
	if f == nil {
		return nil
	}
	return f.due.C
}

// has reports whether rules of that version are in force.
func (d *daemon) has(s config.RuleSet) bool {
	return slices.ContainsFunc(d.config.Rules, func(r config.Rule) bool { return r.Set == s })
}

// heard takes news of a set.
func (d *daemon) heard(ctx context.Context, n intake.News) {
	f, now := d.sets, time.Now()
	var why *sets.Refusal
	switch {
	case n.Gone:
		if f.book.Gone(n.Name) {
			f.log.Warn("a set of the fleet is gone from the servers, and nobody has signed that: it stays as it is", "set", n.Name)
		}
	case n.Fetched != nil:
		if !f.book.Fetched(n.Fetched, n.Err) {
			return
		}
		if n.Err != nil {
			f.log.Warn("the lists of a set of the fleet could not be fetched: trying again", "set", n.Fetched.Name, "version", n.Fetched.Version, "error", n.Err)
		}
	case n.Refused != nil:
		why = n.Refused
	default:
		var fresh bool
		if fresh, why = f.book.Offer(n.Signed, n.Set, now); why == nil && !fresh {
			return
		}
	}
	if why != nil {
		if !f.book.Refuse(n.Name, why) {
			return
		}
	}
	d.settle(ctx, false, n.Name)
}

// settle puts in force what the book says, and takes back what is over. Sets that were refused are tried again, if that is asked for.
// Of the sets in changed there was news.
func (d *daemon) settle(ctx context.Context, again bool, changed ...string) {
	f := d.sets
	if f == nil {
		return
	}
	const rounds = 3 // what is put in force first may let others follow
	for range rounds {
		steps := f.book.Steps(time.Now(), f.dir.Ready, again)
		again = false
		for _, s := range steps {
			if ctx.Err() != nil {
				return
			}
			d.take(ctx, s)
			changed = append(changed, s.Name)
		}
		if len(steps) == 0 {
			break
		}
	}
	f.settled(changed)
}

// settled keeps what has changed, and tells who has to know.
func (f *fleetSets) settled(changed []string) {
	now := time.Now()
	for _, name := range changed {
		if err := f.dir.Save(f.book, name); err != nil {
			f.log.Error("a set of the fleet was not kept: after a restart it is not in force until the servers are there", "set", name, "error", err)
		}
	}
	if len(changed) > 0 {
		f.dir.Clean(f.book)
		f.intake.Want(f.book.Missing(now, f.dir.Ready))
	}
	if all := f.book.Statuses(now); !slices.Equal(all, f.said) {
		f.logRefusals(all)
		f.said = all
		f.report(all)
	}
	// The clock may be set, and a machine may sleep: look now and then.
	const atLeast = 15 * time.Second
	next := atLeast
	for _, s := range f.book.InForce() {
		if !s.Expires.IsZero() {
			next = min(next, max(time.Until(s.Expires), 0))
		}
	}
	f.due.Reset(next)
}

// logRefusals logs which sets are refused, and were not so before.
func (f *fleetSets) logRefusals(all []sets.Status) {
	for _, s := range all {
		before := func(o sets.Status) bool {
			return o.Name == s.Name && o.State == s.State && o.Version == s.Version && o.Code == s.Code && o.Reason == s.Reason
		}
		if s.State == sets.StateRefused && !slices.ContainsFunc(f.said, before) {
			f.log.Warn("a set of the fleet was refused", "set", s.Name, "version", s.Version, "code", s.Code, "error", s.Reason, "in_force", s.InForce)
		}
	}
}

// take takes a step, as a reload.
func (d *daemon) take(ctx context.Context, s sets.Step) {
	f := d.sets
	inForce := slices.DeleteFunc(f.book.InForce(), func(o *sets.Set) bool { return o.Name == s.Name })
	var why *sets.Refusal
	if s.Set != nil {
		f.book.Try(s)
		if err := f.dir.Save(f.book, s.Name); err != nil {
			f.log.Error("a set of the fleet was not kept", "set", s.Name, "error", err)
		}
		why = sets.Conflict(d.local.Rules, inForce, s.Set)
		inForce = append(inForce, s.Set)
	}
	if why == nil {
		if err := d.use(ctx, d.local, f.rules(inForce)); err != nil {
			why = &sets.Refusal{Code: sets.CodeFailed, Text: err.Error()}
		}
	}
	if ctx.Err() != nil {
		return // culprit ends, which is not the fault of the set
	}
	f.book.Settle(s, why)
	switch {
	case s.Set == nil && why == nil:
		f.log.Info("a set of the fleet was taken back", "set", s.Name, "version", s.Was.Version, "rules", len(s.Was.Rules))
	case s.Set == nil:
		f.log.Error("a set of the fleet could not be taken back: it stays in force, and is tried again", "set", s.Name, "version", s.Was.Version, "error", why)
	case why == nil:
		f.log.Info("a set of the fleet is in force", "set", s.Name, "version", s.Set.Version, "rules", len(s.Set.Rules), "until", s.Set.Until())
	}
}

// rules are the rules of sets, in the order of the sets' names.
func (f *fleetSets) rules(all []*sets.Set) (rules []config.Rule) {
	if f == nil {
		return nil
	}
	for _, s := range all {
		rules = append(rules, f.dir.Rules(s)...)
	}
	return rules
}

// reloadWithSets puts a configuration into force with the sets that are. Sets of which a rule now has the name of one of the
// configuration go; so do all, if the configuration works only without them.
func (d *daemon) reloadWithSets(ctx context.Context, c *config.Config) error {
	f := d.sets
	if f == nil {
		return d.use(ctx, c, nil)
	}
	gone := map[*sets.Set]*sets.Refusal{}
	var stay []*sets.Set
	for _, s := range f.book.InForce() {
		if why := sets.Conflict(c.Rules, nil, s); why != nil {
			gone[s] = why
		} else {
			stay = append(stay, s)
		}
	}
	err := d.use(ctx, c, f.rules(stay))
	if err != nil && len(stay) > 0 {
		if d.use(ctx, c, nil) != nil {
			return err
		}
		for _, s := range stay {
			gone[s] = &sets.Refusal{Code: sets.CodeFailed, Text: err.Error()}
		}
		err = nil
	}
	if err != nil {
		return err
	}
	for s, why := range gone {
		f.book.Back(s, why)
	}
	f.configured(c)
	d.settle(ctx, true)
	return nil
}

// setsChanged tells what has become of the sets of the fleet.
func (d *daemon) setsChanged(all []sets.Status) {
	inState := map[sets.State]int{}
	for _, s := range all {
		inState[s.State]++
	}
	d.counts.Sets(inState)
	d.member.has(all)
}
