package catalogue

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"culprit/internal/event"
)

// isCorrupt reports whether SQLite says that a catalogue is damaged, or none.
func isCorrupt(err error) bool {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return false
	}
	code := e.Code() & 0xff // the rest tells more (https://www.sqlite.org/rescode.html)
	return code == sqlite3.SQLITE_CORRUPT || code == sqlite3.SQLITE_NOTADB
}

// errReplaced says that the file of the catalogue is not ours any more.
var errReplaced = errors.New("the catalogue was removed or replaced")

// there returns an error if the catalogue's file is not the one that we have open.
func (c *Catalogue) there() error {
	info, err := c.dir.Root().Lstat(fileName)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(info, c.file) {
		return errReplaced
	}
	if err != nil {
		return fmt.Errorf("look at the catalogue: %w", err)
	}
	return nil
}

// damaged is the loss of a catalogue that was damaged and is kept aside, or is not there.
func damaged(aside string, cause error) event.Loss {
	if aside == "" {
		return event.NewLoss(event.LossReplaced, cause.Error(), 1)
	}
	return event.NewLoss(event.LossDamaged, aside, 1)
}

// asidePrefix is what the names of catalogues begin with that are kept aside.
const asidePrefix = fileName + ".damaged-"

// setAside renames a damaged catalogue and returns its new name. Trace files stay; the
// next catalogue lists them.
func (c *Catalogue) setAside() (aside string, err error) {
	aside = asidePrefix + time.Now().UTC().Format("20060102T150405.000")
	for _, suffix := range suffixes {
		err := c.dir.Root().Rename(fileName+suffix, aside+suffix)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("keep the damaged catalogue aside: %w", err)
		}
	}
	return aside, nil
}

// renewEvery bounds how often a catalogue is given up: on a disk that damages each, there
// would be no end of them.
const renewEvery = time.Hour

// renew keeps a catalogue aside that was damaged or replaced while we run, and begins a new
// one in its place. It returns the new name of ours, or "" if that is not there. The caller
// has the lock.
func (c *Catalogue) renew(cause error) (aside string, err error) {
	if !c.renewed.IsZero() && time.Since(c.renewed) < renewEvery {
		return "", cause
	}
	// Whoever takes the pool's one connection next finds it too old, and gets a new one, to
	// the new file.
	c.db.SetConnMaxLifetime(time.Nanosecond)
	defer c.db.SetConnMaxLifetime(0)
	moved, err := c.setAside()
	if err != nil {
		return "", errors.Join(cause, err)
	}
	if aside = c.keptAside(); aside != "" && errors.Is(cause, errReplaced) {
		moved, cause = aside, errors.New("it was kept aside before, when no new one could begin")
	}
	if err = upgrade(c.db, 0); err == nil {
		c.file, err = c.dir.Root().Lstat(fileName)
	}
	if err != nil {
		for _, suffix := range suffixes { // half made: on a full disk it is tried again
			c.dir.Root().Remove(fileName + suffix)
		}
		return "", errors.Join(cause, fmt.Errorf("begin a new catalogue: %w", err))
	}
	c.renewed = time.Now()
	c.log.Error("the catalogue was damaged or replaced: what is there now was set aside, and a new one begins", "aside", filepath.Join(c.dir.Path(), moved), "error", cause)
	return aside, nil
}

// keptAside looks for the catalogue that we have open among those that were kept aside. It
// may have been there since an attempt before, as on a full disk no new one can begin: then
// it only looks removed.
func (c *Catalogue) keptAside() string {
	there, _ := fs.Glob(c.dir.Root().FS(), asidePrefix+"*")
	for _, name := range there {
		if info, err := c.dir.Root().Lstat(name); err == nil && os.SameFile(info, c.file) {
			return name
		}
	}
	return ""
}
