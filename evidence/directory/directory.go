package evidence

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/oklog/ulid/v2"

	"culprit/internal/event"
	"culprit/internal/redact"
	"culprit/internal/text"
)

// A Directory makes trace files in one directory. Safe for concurrent use.
type Directory struct {
	root *os.Root
	mask atomic.Pointer[redact.Patterns] // for the lines of traces
}

// OpenDirectory opens dir for trace files, and makes it, readable by us only, if
// it is not there. It refuses one in which somebody else could put links or files
// in our way. The caller closes it.
func OpenDirectory(dir string) (*Directory, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the evidence directory: %w", err)
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return nil, fmt.Errorf("look at the evidence directory: %w", err)
	}
	owner := info.Sys().(*syscall.Stat_t).Uid
	switch {
	case info.Mode()&os.ModeSymlink != 0:
		return nil, fmt.Errorf("%s is a symbolic link: name the directory itself", dir)
	case int(owner) != os.Geteuid():
		return nil, fmt.Errorf("%s belongs to the user %d: chown it, or name another directory", dir, owner)
	case info.Mode().Perm()&0o022 != 0:
		return nil, fmt.Errorf("%s can be written to by others: chmod go-w it, or name another directory", dir)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open the evidence directory: %w", err)
	}
	return &Directory{root: root}, nil
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

// tracesDir is where a Store keeps the trace files, a directory for each capture.
const tracesDir = "traces"

// create makes the file of a trace below sub, mode 0600, and sets File.Path. It
// follows no link and never opens a file that is there already: the name is
// "PID-name-ID.strace", and the name is the process's to choose.
func (d *Directory) create(sub string, t *event.Trace) (*os.File, error) {
	name := fmt.Sprintf("%d-%s-%s.strace", t.Process.PID, text.FileName(d.mask.Load().Text(t.Process.Name)), t.Event.ID)
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
func (d *Directory) Create(t *event.Trace) (io.WriteCloser, error) {
	f, err := d.create("", t)
	if err != nil {
		return nil, err
	}
	return maskLines(f, d.mask.Load()), nil
}

// parseName reads the names that create makes.
func parseName(name string) (pid int, id ulid.ULID, ok bool) {
	base, ok := strings.CutSuffix(name, ".strace")
	if !ok || len(base) <= ulid.EncodedSize {
		return 0, id, false
	}
	first, _, _ := strings.Cut(base, "-")
	pid, err1 := strconv.Atoi(first)
	id, err2 := ulid.ParseStrict(base[len(base)-ulid.EncodedSize:])
	return pid, id, err1 == nil && err2 == nil
}

// plain makes sure that a file is not there, or is an ordinary one of ours.
func (d *Directory) plain(name string) error {
	info, err := d.root.Lstat(name)
	if err != nil {
		return nil
	}
	if !info.Mode().IsRegular() || int(info.Sys().(*syscall.Stat_t).Uid) != os.Geteuid() {
		return fmt.Errorf("%s is not an ordinary file of ours: move it away", filepath.Join(d.Path(), name))
	}
	return nil
}
