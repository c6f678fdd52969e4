package shelf

import (
	"context"
	"errors"
	"slices"

	"github.com/nats-io/nats.go"

	"culprit/fleet"
	"culprit/fleet/sets"
)

// Of returns what a host says of a set; false: it does not know it.
func Of(h fleet.Status, set string) (sets.Status, bool) {
	i := slices.IndexFunc(h.Sets, func(s sets.Status) bool { return s.Name == set })
	if i < 0 {
		return sets.Status{}, false
	}
	return h.Sets[i], true
}

// Hosts calls each with what every host says of itself, and with all of it again when one says something else, until each says false
// or the context ends. After the first time, and each other, it calls read, which may say false, too.
func Hosts(ctx context.Context, c *fleet.Conn, read func() bool, each func(fleet.Status) bool) error {
	hosts := c.Name.Hosts()
	ctx, end := context.WithCancel(ctx)
	defer end()
	changed, err := c.Changes(ctx, hosts)
	if err != nil {
		return err
	}
	seen := fleet.Seen{}
	for {
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
		err := c.LastOfEach(ctx, hosts.Stream(), hosts.Subject(">"), func(subject string, m *nats.Msg) error {
			if order, err := seen.Compare(subject, m); order < 0 || err != nil {
				return err
			}
			// What cannot be read, or is of a host that it is not the place of, is left out.
			host, err := fleet.HostOf(hosts.Key(subject))
			if err != nil || fleet.Deleted(m.Header) {
				return nil
			}
			if h, err := fleet.ReadStatus(host, m.Data); err == nil && !each(h) {
				return errEnough
			}
			return nil
		})
		switch {
		case errors.Is(err, errEnough), ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		case !read():
			return nil
		}
	}
}

// errEnough ends the reading.
var errEnough = errors.New("enough")
