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
	"culprit/internal/bell"
	"culprit/internal/event"
	"culprit/internal/text"
	"culprit/internal/words"
)

// A Sweeper keeps one evidence directory within its bounds.
type Sweeper struct {
	evidence
	rows   Rows
	bounds atomic.Pointer[Bounds] // replaced as a whole
	swept  func(Report, error)
	log    *slog.Logger
	short  bell.Bell // somebody found too little free disk
	// unnoted are removed files that the catalogue does not list as removed yet.
	unnoted []catalogue.RemovedFile
}

// Rows is what a sweep changes in the catalogue; see [catalogue.Catalogue].
type Rows interface {
	NoteRemoved(context.Context, []catalogue.RemovedFile) (noted int, err error)
	Expire(ctx context.Context, oldest time.Time, gone map[string]int64) error
	Shrink(ctx context.Context, most int64, gone map[string]int64) error
}

// New makes a Sweeper that reads the catalogue with r and changes it with rows. Run calls swept,
// unless that is nil, after each sweep.
func New(d *directory.Directory, r *catalogue.Reader, rows Rows, b Bounds, swept func(Report, error), log *slog.Logger) *Sweeper {
	s := &Sweeper{evidence: evidence{d, r}, rows: rows, swept: swept, log: log, short: bell.New()}
	s.SetBounds(b)
	return s
}

// SetBounds replaces the bounds. Safe for concurrent use.
func (s *Sweeper) SetBounds(b Bounds) { s.bounds.Store(&b) }

// A sweep takes as long as it takes to list the traces: a second for some 100,000. Sweeps begin
// no more often than sweepEvery, and take at most one part in sweepShare of the time. When disk is
// short, these are urgentEvery and urgentShare.
const (
	sweepEvery  = time.Minute
	sweepShare  = 500
	urgentEvery = time.Second
	urgentShare = 10
)

// Run sweeps until the context ends. It logs errors, and tries again with the next sweep.
func (s *Sweeper) Run(ctx context.Context) {
	for wasShort := false; ; {
		begin := time.Now()
		var r Report
		moved := s.dir.InPlace() // logged below, as there is no room
		err := moved
		if moved == nil {
			r, err = s.Sweep(ctx)
		}
		took := time.Since(begin)
		if s.swept != nil {
			s.swept(r, err)
		}
		if err != nil && moved == nil && ctx.Err() == nil {
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

// Room returns an error if there is too little free disk for a new trace, or the directory is not
// in its place, and makes Run sweep soon. Safe for concurrent use.
func (s *Sweeper) Room() error {
	err := s.room()
	if err != nil {
		s.short.Ring()
	}
	return err
}

func (s *Sweeper) room() error {
	if err := s.dir.InPlace(); err != nil {
		return err
	}
	free, err := s.dir.Free()
	if err != nil || free >= s.bounds.Load().MinFree {
		return err
	}
	return fmt.Errorf("only %s are free on the disk, less than evidence.min_free (%s)", text.Size(free), text.Size(s.bounds.Load().MinFree))
}

// Sweep compresses closed traces, and removes what is out of bounds, once. After an error it goes
// on with the next step.
func (s *Sweeper) Sweep(ctx context.Context) (Report, error) {
	now, b := time.Now(), *s.bounds.Load()
	traces, err := s.scan()
	if err != nil {
		return Report{}, err
	}
	compressed, compressErr := s.compress(ctx, traces)
	r, err := s.plan(b, traces, now)
	r.Compressed, r.Expired = compressed, map[string]int64{}
	if err != nil {
		return r, errors.Join(compressErr, err)
	}
	r.Removed, err = s.remove(r.Removed)
	return r, errors.Join(compressErr, err, s.note(ctx),
		s.rows.Expire(ctx, b.oldest(now), r.Expired), s.rows.Shrink(ctx, b.MaxBytes/2, r.Expired))
}

// note records in the catalogue which files were removed. What it cannot record, on a full disk,
// is left for the next sweep.
func (s *Sweeper) note(ctx context.Context) error {
	noted, err := s.rows.NoteRemoved(ctx, s.unnoted)
	s.unnoted = s.unnoted[noted:]
	return err
}

// compress compresses closed traces while there is disk for it, updates their sizes, and removes
// files that were left half compressed. It leaves the traces of running captures alone: programs
// that are held need the processors.
func (s *Sweeper) compress(ctx context.Context, traces []stored) (n int, firstErr error) {
	for i := range traces {
		t := &traces[i]
		if t.unfinished {
			s.dir.Root().Remove(t.name + tracefile.Unfinished)
		}
		if t.left {
			s.dir.Root().Remove(t.name)
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

// remove removes files, and directories of captures that are empty then. It returns which files
// it removed.
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
		file := catalogue.RemovedFile{Because: r.Why, Executable: r.executable()}
		if file.Executable == "" {
			dirs[path.Dir(r.Name)] = true
			if !r.packets() {
				file.Trace = r.ID
			}
		}
		s.unnoted = append(s.unnoted, file)
	}
	for dir := range dirs {
		s.dir.Root().Remove(dir) // fails unless it is empty
	}
	return removed, firstErr
}
