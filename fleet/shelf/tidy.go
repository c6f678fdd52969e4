package shelf

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"culprit/fleet"
	"culprit/fleet/sets"
)

// huntName is what culprit fleet hunt calls a set: no other set had the name before.
var huntName = regexp.MustCompile(`^hunt-[0-9a-hjkmnp-tv-z]{14}$`)

// tidyTimeout is how long tidying may take.
const tidyTimeout = 10 * time.Second

// MaxNames is how many sets there may be: hosts read not many more at once, and know as many.
const MaxNames = 1000

// Count returns how many places of sets are taken.
func Count(ctx context.Context, c *fleet.Conn) (int, error) {
	stream, err := c.JS.Stream(ctx, c.Name.Sets().Stream())
	if err != nil {
		return 0, fmt.Errorf("count the sets in %s: %w", c.Name.Sets(), err)
	}
	return int(stream.CachedInfo().State.NumSubjects), nil
}

// Tidy removes hunts that ended so long ago that hosts have forgotten them. A set that was published under a name of its own stays: a
// host that was away since may have a version before it in force, and learns only from its place that this has ended, or from what
// [Over] says.
func Tidy(ctx context.Context, c *fleet.Conn, now time.Time) error {
	ctx, end := context.WithTimeout(ctx, tidyTimeout)
	defer end()
	bucket, err := open(ctx, c)
	if err != nil {
		return err
	}
	failed := func(err error) error { return fmt.Errorf("remove old hunts from %s: %w", c.Name.Sets(), err) }
	stream, err := c.JS.Stream(ctx, c.Name.Sets().Stream())
	if err != nil {
		return failed(err)
	}
	keys, err := bucket.ListKeysFiltered(ctx, ">")
	if err != nil {
		return failed(err)
	}
	defer func() { _ = keys.Stop() }()
	for name := range keys.Keys() {
		if !huntName.MatchString(name) {
			continue
		}
		e, err := bucket.Get(ctx, name)
		if errors.Is(err, jetstream.ErrKeyNotFound) { // somebody else tidies
			continue
		}
		if err != nil {
			return failed(err)
		}
		if p := place(e); p.Set == nil || !p.Set.LongOver(now) {
			continue
		}
		if err := empty(ctx, c, stream, name, e.Revision()); err != nil {
			return failed(err)
		}
	}
	return ctx.Err()
}

// empty empties a place, unless something newer stands there. Not as a key is purged: that would leave a mark in it.
func empty(ctx context.Context, c *fleet.Conn, stream jetstream.Stream, name string, revision uint64) error {
	return stream.Purge(ctx, jetstream.WithPurgeSubject(c.Name.Sets().Subject(name)), jetstream.WithPurgeSequence(revision+1))
}

// Over finds the sets that are withdrawn or long over, and what to sign so that no host needs their places: see [sets.EndedName]. It is what was
// signed of that before, with these. What no key of trust has signed is not believed, and stays: it is returned in odd.
func Over(ctx context.Context, c *fleet.Conn, trust sets.Trust, now time.Time) (ended map[string]uint64, places []Place, odd []string, err error) {
	all, err := All(ctx, c)
	if err != nil {
		return nil, nil, nil, err
	}
	ended = map[string]uint64{}
	for _, p := range all {
		s, err := trust.Verify(p.Name, p.Signed)
		switch {
		case err != nil && p.Name == sets.EndedName:
			return nil, nil, nil, fmt.Errorf("the set %s on the servers is not believed, and what you sign has to have all that it has: %w", p.Name, err)
		case err != nil:
			odd = append(odd, p.Name)
		case s.Ended != nil:
			for name, version := range s.Ended {
				ended[name] = max(ended[name], version)
			}
		case huntName.MatchString(p.Name) && !s.Expires.IsZero(): // see Tidy
		case s.Withdrawn || s.LongOver(now):
			ended[p.Name] = max(ended[p.Name], s.Version)
			places = append(places, p)
		}
	}
	return ended, places, odd, nil
}

// Remove empties the places of sets, once hosts can learn otherwise that these are over.
func Remove(ctx context.Context, c *fleet.Conn, places []Place) error {
	stream, err := c.JS.Stream(ctx, c.Name.Sets().Stream())
	for _, p := range places {
		if err == nil {
			err = empty(ctx, c, stream, p.Name, p.revision)
		}
	}
	if err != nil {
		return fmt.Errorf("remove old sets from %s: %w", c.Name.Sets(), err)
	}
	return nil
}
