package evidence

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"path/filepath"
	"sync/atomic"
	"time"

	"culprit/evidence/tracefile"
	"culprit/internal/event"
	"culprit/internal/text"
	"culprit/internal/words"
)

// A Keeper keeps one evidence directory within its bounds.
type Keeper struct {
	// Swept is told of each sweep of Run, and what went wrong. Set it before; nil: nobody is.
	Swept func(Report, error)

	dir    *Directory
	db     *sql.DB
	bounds *atomic.Pointer[Bounds] // replaced as a whole by SetBounds
	log    *slog.Logger
	short  chan struct{} // somebody found too little free disk
	losses []event.Loss  // of the transaction
	// recorded is told of each loss that is in the catalogue now.
	recorded func(event.Loss)
	untold   []Removal // files that were removed, not yet noted in the catalogue
}

// Keeper returns what keeps the store within the bounds. It must not be used once
// the store is closed.
func (s *Store) Keeper(b Bounds) *Keeper {
	k := newKeeper(s.dir, s.db, b, s.log)
	k.recorded = func(l event.Loss) { s.queue <- swept(l) }
	return k
}

func newKeeper(dir *Directory, db *sql.DB, b Bounds, log *slog.Logger) *Keeper {
	k := &Keeper{dir: dir, db: db, bounds: new(atomic.Pointer[Bounds]), log: log, short: make(chan struct{}, 1), recorded: func(event.Loss) {}}
	k.SetBounds(b)
	return k
}

// SetBounds replaces the bounds. Safe for concurrent use.
func (k *Keeper) SetBounds(b Bounds) { k.bounds.Store(&b) }

// keepEvery is how soon one sweep follows another. It takes as long as it needs to
// list the traces, a second for some 100,000: that may be one part in keepShare of the
// time. If the disk is short it is one in urgentShare.
const (
	keepEvery   = time.Minute
	keepShare   = 500
	urgentEvery = time.Second
	urgentShare = 10
)

// Run compresses and removes until the context ends. What goes wrong is logged, and
// tried again.
func (k *Keeper) Run(ctx context.Context) {
	for wasShort := false; ; {
		begin := time.Now()
		var r Report
		gone := k.dir.there() // which room tells
		err := gone
		if gone == nil {
			r, err = k.sweep(ctx)
		}
		took := time.Since(begin)
		if k.Swept != nil {
			k.Swept(r, err)
		}
		if err != nil && gone == nil && ctx.Err() == nil {
			k.log.Error("the evidence could not be kept within its bounds", "error", err)
		}
		if n := len(r.Removed); n > 0 {
			k.log.Warn("old traces were removed", "count", n, "last_because", words.Removed(event.Removed{Code: r.Removed[n-1].Why}))
		}
		roomErr := k.room()
		if roomErr != nil && !wasShort {
			k.log.Error("no new traces are written", "error", roomErr)
		}
		wasShort = roomErr != nil
		select {
		case <-ctx.Done():
			return
		case <-time.After(max(urgentEvery, took*urgentShare)):
		}
		select {
		case <-ctx.Done():
			return
		case <-k.short:
		case <-time.After(max(keepEvery, took*keepShare)):
		}
	}
}

// Room returns an error if there is too little free disk for a new trace, or the directory
// is not in its place. Run then looks for what can be removed. Safe for concurrent use.
func (k *Keeper) Room() error {
	err := k.room()
	if err != nil {
		select {
		case k.short <- struct{}{}:
		default: // it knows
		}
	}
	return err
}

func (k *Keeper) room() error {
	if err := k.dir.there(); err != nil {
		return err
	}
	free, err := k.free()
	if err != nil || free >= k.bounds.Load().MinFree {
		return err
	}
	return fmt.Errorf("only %s are free on the disk, less than evidence.min_free (%s)", text.Size(free), text.Size(k.bounds.Load().MinFree))
}

// A Report is what a sweep did, or would do.
type Report struct {
	Compressed int              // traces
	Removed    []Removal        // in order
	Expired    map[string]int64 // rows of the catalogue that were removed, by table
	Bytes      int64            // of the evidence on the disk, before anything was removed
	Free       int64            // the free disk then, in bytes
}

// look plans, and does nothing.
func (k *Keeper) look(traces []stored, now time.Time) (r Report, err error) {
	u, err := k.usage()
	if err != nil {
		return r, err
	}
	r.Free, r.Bytes = u.free, u.catalogue
	for _, t := range traces {
		r.Bytes += t.size
	}
	r.Removed = plan(*k.bounds.Load(), now, u, traces)
	return r, nil
}

// sweep compresses what is closed and removes what is too much, once. One thing that
// goes wrong does not keep it from the others.
func (k *Keeper) sweep(ctx context.Context) (Report, error) {
	now := time.Now()
	traces, err := k.scan()
	if err != nil {
		return Report{}, err
	}
	compressed, compressErr := k.compress(ctx, traces)
	r, err := k.look(traces, now)
	r.Compressed, r.Expired = compressed, map[string]int64{}
	if err != nil {
		return r, errors.Join(compressErr, err)
	}
	planned := r.Removed
	r.Removed, err = k.remove(planned)
	errs := []error{compressErr, err, k.tell(ctx)}

	horizon, err := k.horizon(now)
	if err == nil {
		err = k.expire(ctx, horizon, r.Expired)
	}
	errs = append(errs, err, k.shrink(ctx, r.Expired))
	return r, errors.Join(errs...)
}

// compress compresses the closed traces as long as there is disk for it, and removes
// what somebody who died left of that. It updates their sizes. While a capture runs it
// leaves its traces: programs that are held need the processors.
func (k *Keeper) compress(ctx context.Context, traces []stored) (n int, firstErr error) {
	for i := range traces {
		t := &traces[i]
		if t.unfinished {
			k.dir.root.Remove(t.name + tracefile.Unfinished)
		}
		if !k.bounds.Load().Compress || !t.plain || t.open || t.running || ctx.Err() != nil || k.room() != nil {
			continue
		}
		err := tracefile.Compress(ctx, filepath.Join(k.dir.Path(), t.name))
		if err == nil {
			n++
			var info fs.FileInfo
			if info, err = k.dir.root.Lstat(t.name + tracefile.Suffix); err == nil {
				t.size = onDisk(info)
			}
		}
		if firstErr == nil {
			firstErr = err
		}
	}
	return n, firstErr
}

// remove removes traces, and the directories of captures that have none left. It
// returns those that it could remove.
func (k *Keeper) remove(planned []Removal) (removed []Removal, firstErr error) {
	dirs := map[string]bool{}
	for _, r := range planned {
		err := tracefile.Remove(k.dir.root, r.Name)
		if r.packets() && err == nil {
			k.dir.root.Remove(r.Name + ".tmp") // of a culprit that was killed
		}
		if err != nil {
			if firstErr == nil {
				firstErr = err
			}
			continue
		}
		removed = append(removed, r)
		dirs[path.Dir(r.Name)] = true
	}
	k.untold = append(k.untold, removed...)
	for dir := range dirs {
		k.dir.root.Remove(dir) // fails if it is not empty
	}
	return removed, firstErr
}
