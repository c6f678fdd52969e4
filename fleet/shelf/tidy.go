package shelf

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"culprit/fleet"
)

// huntName is what culprit fleet hunt calls a set: no other set had the name before.
var huntName = regexp.MustCompile(`^hunt-[0-9a-hjkmnp-tv-z]{14}$`)

// tidyTimeout is how long tidying may take.
const tidyTimeout = 10 * time.Second

// Tidy removes hunts that ended so long ago that hosts have forgotten them. A set that was published under a name of its own stays: a
// host that was away since may have a version before it in force, and learns only from its place that this has ended.
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
		// Not as a key is purged: that would leave a mark in the place of each.
		if err := stream.Purge(ctx, jetstream.WithPurgeSubject(c.Name.Sets().Subject(name)), jetstream.WithPurgeSequence(e.Revision()+1)); err != nil {
			return failed(err)
		}
	}
	return ctx.Err()
}
