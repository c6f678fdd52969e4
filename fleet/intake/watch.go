package intake

import (
	"context"
	"errors"
	"maps"
	"time"

	"github.com/nats-io/nats.go"

	"culprit/fleet"
	"culprit/fleet/sets"
)

// again is how often all sets are read again, although nothing was heard: the bucket may have been made anew.
const again = 5 * time.Minute

// gone is how long a place is missing before that is told.
const gone = 5 * time.Second

// leastPause is how long to wait between two readings.
const leastPause = 250 * time.Millisecond

// watch reads all sets, and hears of those that change. It begins again after errors, and now and then.
func (i *Intake) watch(ctx context.Context) {
	back := i.conn.StatusChanged(nats.CONNECTED)
	defer i.conn.RemoveStatusListener(back)
	var wait pause
	last := ""
	for ctx.Err() == nil {
		err := i.watchOnce(ctx, func() {
			if last != "" {
				i.log.Info("the sets of the fleet are watched again")
			}
			last = ""
			wait.reset()
		})
		if err == nil {
			continue
		}
		if why := err.Error(); why != last && ctx.Err() == nil {
			last = why
			i.log.Warn("the sets of the fleet cannot be watched: those in force stay", "error", err)
		}
		select {
		case <-time.After(wait.next()):
		case <-back:
		case <-ctx.Done():
		}
	}
}

// watchOnce reads all sets, and again whenever one may have changed, until it is time to begin again: then the error is nil. It calls watching
// when it has read what there is.
//
// A host may make no consumer on the servers (see package fleet), so it listens to what others write, and reads that itself.
func (i *Intake) watchOnce(ctx context.Context, watching func()) error {
	ctx, end := context.WithTimeout(ctx, again)
	defer end()
	places := i.conn.Name.Sets()
	changed, err := i.conn.Changes(ctx, places)
	if err != nil {
		return err
	}
	told, missing := map[string]bool{}, map[string]time.Time{}
	for {
		var look <-chan time.Time
		if len(missing) > 0 {
			look = time.After(gone)
		}
		select {
		case <-changed:
		case <-look:
		case <-ctx.Done():
			return nil
		}
		here := map[string]bool{}
		err := i.conn.LastOfEach(ctx, places.Stream(), places.Subject(">"), func(subject string, m *nats.Msg) error {
			name := places.Key(subject)
			here[name] = true
			order, err := i.seen.Compare(subject, m)
			if err != nil {
				return err
			}
			if order < 0 || order == 0 && told[name] { // what is old would look as if somebody had put it back
				return nil
			}
			told[name] = true
			if !i.tell(ctx, i.read(name, m)) {
				return ctx.Err()
			}
			return nil
		})
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		// A place may be emptied without a word; or who answered is behind, and does not have it yet.
		for name := range i.here {
			since, known := missing[name]
			switch {
			case here[name]:
				delete(missing, name)
			case !known:
				missing[name] = time.Now()
			case time.Since(since) >= gone:
				delete(missing, name)
				delete(told, name)
				delete(i.here, name)
				if !i.tell(ctx, News{Name: name, Gone: true}) {
					return nil
				}
			}
		}
		maps.Copy(i.here, here)
		watching()
		// Who has the servers could say without end that something has changed.
		select {
		case <-time.After(leastPause):
		case <-ctx.Done():
			return nil
		}
	}
}

// read makes news of what stands in a place of the bucket.
func (i *Intake) read(name string, m *nats.Msg) News {
	n := News{Name: name}
	if fleet.Deleted(m.Header) {
		n.Gone = true
		return n
	}
	var err error
	if n.Signed, err = sets.ReadValue(m.Data); err != nil {
		n.Refused = &sets.Refusal{Code: sets.CodeFormat, Text: err.Error()}
		return n
	}
	if n.Set, err = i.trust.Verify(n.Name, n.Signed); err != nil {
		why, ok := errors.AsType[*sets.Refusal](err)
		if !ok {
			why = &sets.Refusal{Code: sets.CodeFormat, Text: err.Error()}
		}
		n.Set, n.Refused = nil, why
	}
	return n
}
