package evidence

import (
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"culprit/evidence/tracefile"
	"culprit/internal/event"
	"culprit/internal/strace"
	"culprit/internal/text"
	"culprit/internal/words"
)

// catalogueFiles are the suffixes of SQLite's files.
var catalogueFiles = []string{"", "-wal", "-shm", "-journal"}

// openCatalogue opens the catalogue, and marks what an earlier culprit left running;
// it returns the captures.
func (s *Store) openCatalogue() (lost []event.Capture, err error) {
	if s.db, err = openCatalogue(s.dir.Path(), false); err != nil {
		return nil, err
	}
	if s.writer, err = newWriter(s.db); err != nil {
		return nil, fmt.Errorf("open the catalogue: %w", err)
	}
	if s.reading, err = openCatalogue(s.dir.Path(), true); err != nil {
		return nil, err
	}
	s.reading.SetConnMaxLifetime(time.Second) // another catalogue may take its place
	if s.outlet != nil {
		if err := s.feedTo(s.outlet); err != nil {
			return nil, err
		}
	}
	if err := s.passLatest(); err != nil {
		return nil, err
	}
	if lost, err = s.markLost(); err != nil {
		return nil, fmt.Errorf("mark what an earlier culprit left running: %w", err)
	}
	return lost, nil
}

// passLatest sees to it that new ids come after those that are there: the clock may have
// been set back since they were made.
func (s *Store) passLatest() error {
	for _, table := range expiring {
		var id sql.NullString
		if err := s.db.QueryRow("SELECT max(id) FROM " + table).Scan(&id); err != nil {
			return fmt.Errorf("look for the latest in the catalogue: %w", err)
		}
		event.NewIDsAfter(id.String)
	}
	return nil
}

// isCorrupt reports whether SQLite says that a catalogue is damaged, or none.
func isCorrupt(err error) bool {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return false
	}
	code := e.Code() & 0xff // the rest tells more (https://www.sqlite.org/rescode.html)
	return code == sqlite3.SQLITE_CORRUPT || code == sqlite3.SQLITE_NOTADB
}

// damaged is the loss of a catalogue that was damaged and is kept aside, or is not there.
func damaged(aside string, cause error) event.Loss {
	if aside == "" {
		return event.NewLoss(event.LossReplaced, cause.Error(), 1)
	}
	return event.NewLoss(event.LossDamaged, aside, 1)
}

// asidePrefix is what the names of catalogues begin with that are kept aside.
const asidePrefix = catalogueName + ".damaged-"

// setAside renames a damaged catalogue and returns its new name. Trace files stay; the
// next catalogue lists them.
func (s *Store) setAside() (aside string, err error) {
	aside = asidePrefix + time.Now().UTC().Format("20060102T150405.000")
	for _, suffix := range catalogueFiles {
		err := s.dir.root.Rename(catalogueName+suffix, aside+suffix)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("keep the damaged catalogue aside: %w", err)
		}
	}
	return aside, nil
}

// markLock notes in the lock that we run; Close takes that back.
func (s *Store) markLock() error {
	if _, err := s.lock.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0); err != nil {
		return fmt.Errorf("note in the evidence directory that culprit runs: %w", err)
	}
	return nil
}

// unclean returns the last sign of an earlier culprit that did not end in good order, and
// since when nothing was watched; "" if it did.
func (d *Directory) unclean() string {
	info, err := d.root.Stat(lockName)
	if err != nil || info.Size() == 0 {
		return ""
	}
	last := info.ModTime()
	for _, suffix := range catalogueFiles {
		if info, err := d.root.Stat(catalogueName + suffix); err == nil && info.ModTime().After(last) {
			last = info.ModTime()
		}
	}
	return text.Time(last)
}

// killed is why what markLost finds has ended.
func killed() *event.Ended { return &event.Ended{Code: event.EndedKilled} }

// markLost marks captures and traces that no daemon is running any more, and returns
// the captures.
func (s *Store) markLost() (lost []event.Capture, err error) {
	r := &Reader{db: s.db, dir: s.dir.Path()}
	batch := newBatch()
	for c, err := range r.Captures(Filter{unfinished: true}) {
		if err != nil {
			return nil, err
		}
		c.Culprit.State, c.Culprit.EndedBecause = event.StateLost, killed()
		batch.add(c)
		lost = append(lost, c)
	}
	for t, err := range r.Traces(Filter{unfinished: true, proofless: true}) {
		if err != nil {
			return nil, err
		}
		t.Culprit.State, t.Culprit.EndedBecause = event.StateLost, killed()
		if size, err := s.dir.markPartial(t.File.Path, killed()); err == nil {
			t.File.Size = size
		}
		batch.add(t)
	}
	if err := batch.write(s.writer); err != nil {
		return nil, err
	}
	return lost, s.adoptOrphans()
}

// adoptOrphans puts trace files into the catalogue whose daemon was killed before
// it could do that itself, and marks them.
func (s *Store) adoptOrphans() error {
	r := &Reader{db: s.db, dir: s.dir.Path()}
	known, err := idsOf(s.db, "SELECT id FROM traces")
	if err != nil {
		return err
	}
	captures := map[string]event.Capture{} // of the orphans
	capture := func(id string) event.Capture {
		if c, ok := captures[id]; ok {
			return c
		}
		c := event.Capture{Event: event.Meta{ID: id}}
		for of, err := range r.Captures(Filter{Capture: id}) {
			if err == nil {
				c = of
			}
		}
		captures[id] = c
		return c
	}
	batch := newBatch()
	err = fs.WalkDir(s.dir.root.FS(), tracesDir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return nil // it is not there, or not ours
		}
		plain, compressed := strings.CutSuffix(name, tracefile.Suffix)
		pid, id, ok := parseName(path.Base(plain))
		if !ok || known[id.String()] {
			return nil
		}
		file, because := filepath.Join(s.dir.Path(), plain), &event.Ended{Code: event.EndedDamaged}
		var size int64
		if !compressed { // one that is had ended
			because = killed()
			if size, err = s.dir.markPartial(file, because); err != nil {
				return nil
			}
		}
		known[id.String()] = true
		c := capture(path.Base(path.Dir(name)))
		start := id.Timestamp()
		batch.add(event.Trace{
			Timestamp: start,
			Event:     event.Meta{ID: id.String(), Kind: "event", Action: event.ActionTrace, Start: &start},
			Rule:      c.Rule, User: c.User,
			Process: event.Process{PID: pid},
			File:    event.File{Path: file, Size: size},
			Culprit: event.TraceDetail{
				Capture: event.Reference{ID: c.Event.ID}, Hit: c.Culprit.FirstHit,
				State: event.StateLost, EndedBecause: because,
			},
		})
		return nil
	})
	if err != nil {
		return err
	}
	return batch.write(s.writer)
}

// markPartial adds to a trace file that it is not complete, and returns its size.
func (d *Directory) markPartial(path string, because *event.Ended) (int64, error) {
	name, err := filepath.Rel(d.Path(), path)
	if err != nil {
		return 0, err
	}
	f, err := d.root.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	f.Write(strace.AppendPartial(nil, words.TraceEnded(because)))
	return f.Seek(0, 2)
}
