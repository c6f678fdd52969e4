package intake

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"culprit/fleet"
	"culprit/fleet/sets"
)

// fetch fetches the lists of the sets that are wanted, and tries again what failed.
func (i *Intake) fetch(ctx context.Context) {
	var (
		wanted []*sets.Set
		wait   pause
		retry  <-chan time.Time
	)
	for {
		select {
		case <-ctx.Done():
			return
		case wanted = <-i.want:
			wait.reset()
		case <-retry:
		}
		retry = nil
		failed := false
		for _, s := range wanted {
			if i.dir.Ready(s) {
				continue
			}
			err := i.lists(ctx, s)
			failed = failed || err != nil
			if !i.tell(ctx, News{Name: s.Name, Fetched: s, Err: err}) {
				return
			}
		}
		if failed {
			retry = time.After(wait.next())
		}
	}
}

// lists fetches the lists of a set that are not there.
func (i *Intake) lists(ctx context.Context, s *sets.Set) error {
	for _, l := range s.Lists {
		if i.dir.Has(l) {
			continue
		}
		if err := i.list(ctx, l); err != nil {
			return err
		}
	}
	return nil
}

// list fetches a list.
func (i *Intake) list(ctx context.Context, l sets.List) error {
	out, in := io.Pipe()
	defer out.Close()
	go func() {
		err := i.conn.Object(ctx, i.conn.Name.Lists(), l.SHA256, l.Size, in)
		if errors.Is(err, fleet.ErrNotFound) {
			err = fmt.Errorf("the servers do not have it: publish the set again: %w", err)
		}
		in.CloseWithError(err) // nil is the end
	}()
	return i.dir.Keep(l, out, i.free())
}
