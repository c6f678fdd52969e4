package evidence

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// A directory that is moved or removed stays what is open of it: everything could be
// written, and would be found by nobody. So it is asked for by its name before anything is
// written. When it is back in its place, so are we; another one in its place is used only
// by the next culprit, which looks at it first.

// there returns an error if the directory is not what its name stands for any more.
func (d *Directory) there() error {
	ours, err := d.root.Stat(".")
	if err != nil {
		return fmt.Errorf("look at the evidence directory %s: %w", d.Path(), err)
	}
	its, err := os.Lstat(d.Path())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("the evidence directory %s was moved or removed: put it back, or restart culprit to begin a new one", d.Path())
	case err != nil:
		return fmt.Errorf("look at the evidence directory: %w", err)
	case !os.SameFile(ours, its):
		return fmt.Errorf("another directory is in the place of the evidence directory %s: put the old one back, or restart culprit to use the new one", d.Path())
	}
	return nil
}

// errReplaced says that the file of the catalogue is not ours any more.
var errReplaced = errors.New("the catalogue was removed or replaced")

// catalogueThere returns an error if the catalogue's file is not the one that we have open.
func (s *Store) catalogueThere() error {
	info, err := s.dir.root.Lstat(catalogueName)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(info, s.file) {
		return errReplaced
	}
	if err != nil {
		return fmt.Errorf("look at the catalogue: %w", err)
	}
	return nil
}

// renewEvery bounds how often a catalogue is given up: on a disk that damages each, there
// would be no end of them.
const renewEvery = time.Hour

// renew keeps a catalogue aside that was damaged or replaced while we run, and begins a new
// one in its place. It returns the new name of ours, or "" if that is not there. The writer
// calls it.
func (s *Store) renew(cause error) (aside string, err error) {
	if !s.renewed.IsZero() && time.Since(s.renewed) < renewEvery {
		return "", cause
	}
	// The pool has one connection, of which the Keeper may be making use: whoever takes it
	// next finds it too old, and gets a new one, to the new file.
	s.db.SetConnMaxLifetime(time.Nanosecond)
	defer s.db.SetConnMaxLifetime(0)
	moved, err := s.setAside()
	if err != nil {
		return "", errors.Join(cause, err)
	}
	if aside = s.keptAside(); aside != "" && errors.Is(cause, errReplaced) {
		moved, cause = aside, errors.New("it was kept aside before, when no new one could begin")
	}
	if err = upgrade(s.db, 0); err == nil {
		s.file, err = s.dir.root.Lstat(catalogueName)
	}
	if err != nil {
		for _, suffix := range catalogueFiles { // half made: on a full disk it is tried again
			s.dir.root.Remove(catalogueName + suffix)
		}
		return "", errors.Join(cause, fmt.Errorf("begin a new catalogue: %w", err))
	}
	s.renewed = time.Now()
	s.log.Error("the catalogue was damaged or replaced: what is in its place is kept aside, and a new one begins", "aside", filepath.Join(s.dir.Path(), moved), "error", cause)
	return aside, nil
}

// keptAside looks for the catalogue that we have open among those that were kept aside. It
// may have been there since an attempt before, as on a full disk no new one can begin: then
// it only looks removed.
func (s *Store) keptAside() string {
	there, _ := fs.Glob(s.dir.root.FS(), asidePrefix+"*")
	for _, name := range there {
		if info, err := s.dir.root.Lstat(name); err == nil && os.SameFile(info, s.file) {
			return name
		}
	}
	return ""
}
