package evidence

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// Prune brings the evidence in dir within the bounds, once. It refuses while a daemon
// runs with it: that does so itself, every minute, and is the only one to write to the
// catalogue. With dryRun it only says what it would do, also beside a daemon.
func Prune(ctx context.Context, dir string, b Bounds, dryRun bool, log *slog.Logger) (Report, error) {
	reader, err := OpenReader(dir)
	if err != nil {
		return Report{}, err
	}
	defer reader.Close()
	if dryRun {
		d, err := OpenDirectory(dir)
		if err != nil {
			return Report{}, err
		}
		defer d.Close()
		return newKeeper(d, reader.db, b, log).preview()
	}
	if pid, err := Holder(dir); err != nil {
		return Report{}, err
	} else if pid != 0 {
		return Report{}, fmt.Errorf("a culprit (PID %d) runs with %s: it removes what is too much itself, within minutes; look at that with --dry-run, or stop it first", pid, dir)
	}
	s, err := Open(dir, log)
	if err != nil {
		return Report{}, err
	}
	r, err := s.Keeper(b).sweep(ctx)
	return r, errors.Join(err, s.Close())
}

// preview says what a sweep would do. Traces that it would compress count with the
// size that they have now, so it may name more than a sweep removes.
func (k *Keeper) preview() (Report, error) {
	now := time.Now()
	traces, err := k.scan()
	if err != nil {
		return Report{}, err
	}
	r, err := k.look(traces, now)
	if err != nil {
		return r, err
	}
	for _, t := range traces {
		if k.bounds.Load().Compress && t.plain && !t.open && !t.running {
			r.Compressed++
		}
	}
	horizon, err := k.horizon(now)
	if err == nil {
		r.Expired, err = k.expirable(horizon)
	}
	return r, err
}
