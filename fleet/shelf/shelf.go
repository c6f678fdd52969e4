// Package shelf puts signed sets on the servers of a fleet, and shows what is there: for operators.
package shelf

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"culprit/fleet"
	"culprit/fleet/sets"
)

// Put puts a signed set in its place, with the files of its lists by their names. It refuses a set that is not newer than the one that is
// there, and lists that are not what was signed.
func Put(ctx context.Context, c *fleet.Conn, signed sets.Signed, paths map[string]string) error {
	s, err := signed.Unverified()
	if err != nil {
		return fmt.Errorf("read the set: %w", err)
	}
	if err := putLists(ctx, c, s, paths); err != nil {
		return err
	}
	value, err := signed.Value()
	if err != nil {
		return fmt.Errorf("publish the set %s: %w", s.Name, err)
	}
	bucket, err := open(ctx, c)
	if err != nil {
		return err
	}
	if err := notEnded(ctx, bucket, s); err != nil {
		return err
	}
	there, err := bucket.Get(ctx, s.Name)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		if n, err := Count(ctx, c); err != nil {
			return err
		} else if n >= MaxNames && s.Ended == nil {
			return fmt.Errorf("the servers have %d sets, and hosts read no more: remove those that are withdrawn or long over (`culprit fleet tidy --key FILE`), withdraw some before, or publish under a name that is there", n)
		}
		_, err = bucket.Create(ctx, s.Name, value)
	} else if err == nil {
		if before := place(there).Set; before != nil && before.Version >= s.Version {
			return fmt.Errorf("the servers have version %d of the set %s, and this is version %d: hosts take only what is newer: sign it again", before.Version, s.Name, s.Version)
		}
		_, err = bucket.Update(ctx, s.Name, value, there.Revision())
	}
	switch {
	case errors.Is(err, jetstream.ErrKeyExists):
		return fmt.Errorf("somebody else has published the set %s just now: look at it (`culprit fleet sets %s`), and try again", s.Name, s.Name)
	case err != nil:
		return fmt.Errorf("publish the set %s: %w", s.Name, err)
	}
	return nil
}

// notEnded refuses a version that was taken back, see [sets.EndedName].
func notEnded(ctx context.Context, bucket jetstream.KeyValue, s *sets.Set) error {
	e, err := bucket.Get(ctx, sets.EndedName)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the set %s: %w", sets.EndedName, err)
	}
	if p := place(e); p.Set != nil && p.Set.Ended[s.Name] >= s.Version {
		return fmt.Errorf("all versions of the set %s up to %d were taken back, and this is version %d: hosts take only what is newer: sign it again", s.Name, p.Set.Ended[s.Name], s.Version)
	}
	return nil
}

func open(ctx context.Context, c *fleet.Conn) (jetstream.KeyValue, error) {
	bucket, err := c.JS.KeyValue(ctx, string(c.Name.Sets()))
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		return nil, fmt.Errorf("the servers have no %s: type `culprit fleet init`", c.Name.Sets())
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", c.Name.Sets(), err)
	}
	return bucket, nil
}

// putLists puts the lists on the servers that do not have them yet.
func putLists(ctx context.Context, c *fleet.Conn, s *sets.Set, paths map[string]string) error {
	if len(s.Lists) == 0 {
		return nil
	}
	store, err := c.JS.ObjectStore(ctx, c.Name.Lists())
	if err != nil {
		return fmt.Errorf("open %s: %w: type `culprit fleet init`", c.Name.Lists(), err)
	}
	for _, l := range s.Lists {
		path := paths[l.Name]
		sum, size, err := sets.Sum(path)
		if err != nil {
			return fmt.Errorf("publish the list %s: %w", l.Name, err)
		}
		if sum != l.SHA256 || size != l.Size {
			return fmt.Errorf("the list %s in %s is not the one that was signed: sign the set again", l.Name, path)
		}
		if info, err := store.GetInfo(ctx, l.SHA256); err == nil && int64(info.Size) == l.Size {
			continue
		}
		if err := putList(ctx, c, store, l, path); err != nil {
			return fmt.Errorf("publish the list %s: %w", l.Name, err)
		}
	}
	return nil
}

func putList(ctx context.Context, c *fleet.Conn, store jetstream.ObjectStore, l sets.List, path string) error {
	// A context without a deadline would get one of seconds.
	const longest = time.Hour
	ctx, end := context.WithTimeout(ctx, longest)
	defer end()
	ctx, stop := c.Allowed(ctx)
	defer stop()
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = store.Put(ctx, jetstream.ObjectMeta{Name: l.SHA256, Description: l.Name}, file)
	if why := context.Cause(ctx); err != nil && why != nil {
		return why
	}
	return err
}

// A Place is what stands on the servers under the name of a set.
type Place struct {
	Name      string
	revision  uint64
	Published time.Time // as the servers say
	Set       *sets.Set // nil: it cannot be read, Err says why
	Signed    sets.Signed
	Err       error
}

// All returns what there is, by name.
func All(ctx context.Context, c *fleet.Conn) (all []Place, err error) {
	bucket, err := open(ctx, c)
	if err != nil {
		return nil, err
	}
	w, err := bucket.WatchAll(ctx, jetstream.IgnoreDeletes())
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", c.Name.Sets(), err)
	}
	defer func() { _ = w.Stop() }()
	for {
		select {
		case e, ok := <-w.Updates():
			if !ok {
				return nil, fmt.Errorf("read %s: the servers have gone away", c.Name.Sets())
			}
			if e == nil {
				slices.SortFunc(all, func(a, b Place) int { return strings.Compare(a.Name, b.Name) })
				return all, nil
			}
			all = append(all, place(e))
		case <-ctx.Done():
			return nil, fmt.Errorf("read %s: %w", c.Name.Sets(), ctx.Err())
		}
	}
}

// Get returns what stands in the place of a set; nil: nothing.
func Get(ctx context.Context, c *fleet.Conn, name string) (*Place, error) {
	bucket, err := open(ctx, c)
	if err != nil {
		return nil, err
	}
	e, err := bucket.Get(ctx, name)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read the set %s: %w", name, err)
	}
	p := place(e)
	return &p, nil
}

func place(e jetstream.KeyValueEntry) Place {
	p := Place{Name: e.Key(), revision: e.Revision(), Published: e.Created()}
	if p.Signed, p.Err = sets.ReadValue(e.Value()); p.Err == nil {
		p.Set, p.Err = p.Signed.Unverified()
	}
	return p
}
