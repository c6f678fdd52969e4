package retention

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"path/filepath"
	"sync/atomic"
	"time"

	"culprit/evidence/catalogue"
	"culprit/evidence/directory"
	"culprit/evidence/tracefile"
	"culprit/internal/event"
	"culprit/internal/text"
	"culprit/internal/words"
)

// A Sweeper keeps one evidence directory within its bounds.
type Sweeper struct {
	evidence
	rows   Rows
	bounds atomic.Pointer[Bounds] // replaced as a whole
	told   func(Report, error)
	log    *slog.Logger
	short  chan struct{} // somebody found too little free disk
	// unnoted are files that were removed, and the catalogue does not say so yet.
	unnoted []catalogue.RemovedFile
}

// Rows are those of the catalogue, which a sweep changes; see [catalogue.Catalogue].
type Rows interface {
	NoteRemoved(context.Context, []catalogue.RemovedFile) (noted int, err error)
	Expire(ctx context.Context, oldest time.Time, gone map[string]int64) error
	Shrink(ctx context.Context, most int64, gone map[string]int64) error
}

// New makes a Sweeper, which reads the catalogue by the reader and changes its rows. Each
// sweep of Run is told of, with what went wrong, unless told is nil.
func New(d *directory.Directory, r *catalogue.Reader, rows Rows, b Bounds, told func(Report, error), log *slog.Logger) *Sweeper {
	s := &Sweeper{evidence: evidence{d, r}, rows: rows, told: told, log: log, short: make(chan struct{}, 1)}
	s.SetBounds(b)
	return s
}

// SetBounds replaces the bounds. Safe for concurrent use.
func (s *Sweeper) SetBounds(b Bounds) { s.bounds.Store(&b) }

// sweepEvery is how soon one sweep follows another. It takes as long as it needs to
// list the traces, a second for some 100,000: that may be one part in sweepShare of the
// time. If the disk is short it is one in urgentShare.
const (
	sweepEvery  = time.Minute
	sweepShare  = 500
	urgentEvery = time.Second
	urgentShare = 10
)

// Run compresses and removes until the context ends. What goes wrong is logged, and
// tried again.
func (s *Sweeper) Run(ctx context.Context) {
	for wasShort := false; ; {
		begin := time.Now()
		var r Report
		gone := s.dir.There() // which room tells
		err := gone
		if gone == nil {
			r, err = s.Sweep(ctx)
		}
		took := time.Since(begin)
		if s.told != nil {
			s.told(r, err)
		}
		if err != nil && gone == nil && ctx.Err() == nil {
			s.log.Error("cannot keep the evidence within its limits", "error", err)
		}
		if n := len(r.Removed); n > 0 {
			s.log.Warn("old traces were removed", "count", n, "last_because", words.Removed(event.Removed{Code: r.Removed[n-1].Why}))
		}
		roomErr := s.room()
		if roomErr != nil && !wasShort {
			s.log.Error("no new traces are written", "error", roomErr)
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
		case <-s.short:
		case <-time.After(max(sweepEvery, took*sweepShare)):
		}
	}
}

// Room returns an error if there is too little free disk for a new trace, or the directory
// is not in its place. Run then looks for what can be removed. Safe for concurrent use.
func (s *Sweeper) Room() error {
	err := s.room()
	if err != nil {
		select {
		case s.short <- struct{}{}:
		default: // it knows
		}
	}
	return err
}

func (s *Sweeper) room() error {
	if err := s.dir.There(); err != nil {
		return err
	}
	free, err := s.dir.Free()
	if err != nil || free >= s.bounds.Load().MinFree {
		return err
	}
	return fmt.Errorf("only %s are free on the disk, less than evidence.min_free (%s)", text.Size(free), text.Size(s.bounds.Load().MinFree))
}

// Sweep compresses what is closed and removes what is too much, once. One thing that
// goes wrong does not keep it from the others.
func (s *Sweeper) Sweep(ctx context.Context) (Report, error) {
	now, b := time.Now(), *s.bounds.Load()
	traces, err := s.scan()
	if err != nil {
		return Report{}, err
	}
	compressed, compressErr := s.compress(ctx, traces)
	r, err := s.look(b, traces, now)
	r.Compressed, r.Expired = compressed, map[string]int64{}
	if err != nil {
		return r, errors.Join(compressErr, err)
	}
	r.Removed, err = s.remove(r.Removed)
	return r, errors.Join(compressErr, err, s.note(ctx),
		s.rows.Expire(ctx, b.oldest(now), r.Expired), s.rows.Shrink(ctx, b.MaxBytes/2, r.Expired))
}

// note notes in the catalogue which files were removed. What cannot be noted now, on a full
// disk, is noted the next time.
func (s *Sweeper) note(ctx context.Context) error {
	noted, err := s.rows.NoteRemoved(ctx, s.unnoted)
	s.unnoted = s.unnoted[noted:]
	return err
}

// compress compresses the closed traces as long as there is disk for it, and removes
// what somebody who died left of that. It updates their sizes. While a capture runs it
// leaves its traces: programs that are held need the processors.
func (s *Sweeper) compress(ctx context.Context, traces []stored) (n int, firstErr error) {
	for i := range traces {
		t := &traces[i]
		if t.unfinished {
			s.dir.Root().Remove(t.name + tracefile.Unfinished)
		}
		if !s.bounds.Load().Compress || !t.plain || t.open || t.running || ctx.Err() != nil || s.room() != nil {
			continue
		}
		err := tracefile.Compress(ctx, filepath.Join(s.dir.Path(), t.name))
		if err == nil {
			n++
			var info fs.FileInfo
			if info, err = s.dir.Root().Lstat(t.name + tracefile.Suffix); err == nil {
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
func (s *Sweeper) remove(planned []Removal) (removed []Removal, firstErr error) {
	dirs := map[string]bool{}
	for _, r := range planned {
		err := tracefile.Remove(s.dir.Root(), r.Name)
		if r.packets() && err == nil {
			s.dir.Root().Remove(r.Name + ".tmp") // of a culprit that was killed
		}
		if err != nil {
			if firstErr == nil {
				firstErr = err
			}
			continue
		}
		removed = append(removed, r)
		file := catalogue.RemovedFile{Because: r.Why}
		if !r.packets() {
			file.Trace = r.ID
		}
		s.unnoted = append(s.unnoted, file)
		dirs[path.Dir(r.Name)] = true
	}
	for dir := range dirs {
		s.dir.Root().Remove(dir) // fails if it is not empty
	}
	return removed, firstErr
}
