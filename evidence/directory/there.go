package directory

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// There returns an error if the directory is not what its name stands for any more. One that
// was moved or removed can be written to as before, by what is open of it, and nobody would
// find that: so its name is looked at before anything is written. When it is back in its
// place, so are we; another one in its place is used only by the next culprit, which looks
// at it first.
func (d *Directory) There() error {
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

// Free is how many bytes are free on its file system.
func (d *Directory) Free() (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(d.Path(), &st); err != nil {
		return 0, fmt.Errorf("ask for the free disk of %s: %w", d.Path(), err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}
