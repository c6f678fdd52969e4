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

// isCorrupt reports whether SQLite says that a catalogue is damaged, or no data base at all.
func isCorrupt(err error) bool {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return false
	}
	code := e.Code() & 0xff // without the extension (https://www.sqlite.org/rescode.html)
	return code == sqlite3.SQLITE_CORRUPT || code == sqlite3.SQLITE_NOTADB
}

// errReplaced says that the catalogue's name is no longer that of the file we have open.
var errReplaced = errors.New("the catalogue was removed or replaced")

// inPlace returns an error if the catalogue's name is not that of the file we have open.
func (c *Catalogue) inPlace() error {
	info, err := c.dir.Root().Lstat(fileName)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(info, c.file) {
		return errReplaced
	}
	if err != nil {
		return fmt.Errorf("look at the catalogue: %w", err)
	}
	return nil
}

// damaged makes the loss of a catalogue that was set aside, or, if aside is "", has gone.
func damaged(aside string, cause error) event.Loss {
	if aside == "" {
		return event.NewLoss(event.LossReplaced, cause.Error(), 1)
	}
	return event.NewLoss(event.LossDamaged, aside, 1)
}

// asidePrefix begins the names of catalogues that were set aside.
const asidePrefix = fileName + ".damaged-"

// setAside renames a damaged catalogue and returns its new name. Trace files stay, and the next
// catalogue lists them.
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

// renewEvery bounds how often a catalogue is set aside: a bad disk could damage each new one.
const renewEvery = time.Hour

// renew sets aside a catalogue that was damaged or replaced while we run, and begins a new one.
// It returns the new name of ours, or "" if ours has gone. The caller holds c.mu.
func (c *Catalogue) renew(cause error) (aside string, err error) {
	if !c.renewed.IsZero() && time.Since(c.renewed) < renewEvery {
		return "", cause
	}
	// The pool's one connection is now too old: the next use opens the new file.
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
		for _, suffix := range suffixes { // half made, as on a full disk: the next Write tries again
			c.dir.Root().Remove(fileName + suffix)
		}
		return "", errors.Join(cause, fmt.Errorf("begin a new catalogue: %w", err))
	}
	c.renewed = time.Now()
	c.log.Error("the catalogue was damaged or replaced: what is there now was set aside, and a new one begins", "aside", filepath.Join(c.dir.Path(), moved), "error", cause)
	return aside, nil
}

// keptAside looks for the catalogue that we have open among those that were set aside. An
// earlier attempt may have set it aside and then failed to begin a new one, on a full disk: then
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
