package evidence

import (
	"fmt"
	"os"
	"path/filepath"

	"culprit/internal/event"
	"culprit/internal/text"
)

// A Directory makes trace files in one directory. Safe for concurrent use.
type Directory struct {
	root *os.Root
}

// OpenDirectory opens dir for trace files, and makes it, readable by us only, if
// it is not there. The caller closes it.
func OpenDirectory(dir string) (*Directory, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the evidence directory: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open the evidence directory: %w", err)
	}
	return &Directory{root}, nil
}

// Close closes the directory. Files made in it stay open.
func (d *Directory) Close() error { return d.root.Close() }

// Path is the directory's absolute path.
func (d *Directory) Path() string {
	if abs, err := filepath.Abs(d.root.Name()); err == nil {
		return abs
	}
	return d.root.Name()
}

// create makes the file of a trace below sub, mode 0600, and sets File.Path. It
// follows no link and never opens a file that is there already: the name is
// "PID-name-ID.strace", and the name is the process's to choose.
func (d *Directory) create(sub string, t *event.Trace) (*os.File, error) {
	name := fmt.Sprintf("%d-%s-%s.strace", t.Process.PID, text.FileName(t.Process.Name), t.Event.ID)
	if sub != "" {
		if err := d.root.MkdirAll(sub, 0o700); err != nil {
			return nil, fmt.Errorf("make the directory of a capture: %w", err)
		}
		name = filepath.Join(sub, name)
	}
	f, err := d.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make a trace file: %w", err)
	}
	t.File.Path = filepath.Join(d.Path(), name)
	return f, nil
}

// Create makes the file of a trace in the directory itself.
func (d *Directory) Create(t *event.Trace) (*os.File, error) { return d.create("", t) }
