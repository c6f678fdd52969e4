// Package directory keeps the evidence directory: its trace files, masked on their way to the
// disk, and the lock of the culprit that runs with it.
package directory

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
	"culprit/internal/strace"
	"culprit/internal/text"
	"culprit/internal/words"
)

// A Directory is an open directory of evidence. Safe for concurrent use.
type Directory struct {
	root *os.Root
	lock *os.File // nil: it is not ours
	mask atomic.Pointer[redact.Patterns]
}

// Open opens dir, and makes it, readable by us only, if it is not there. It refuses one in
// which somebody else could put links or files in our way. The caller closes it.
func Open(dir string) (*Directory, error) {
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
		return nil, fmt.Errorf("%s is a symbolic link: name the real directory", dir)
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

// Close closes the directory and gives back its lock. Files made in it stay open.
func (d *Directory) Close() error {
	if d.lock != nil {
		defer d.lock.Close()
	}
	return d.root.Close()
}

// Root is the directory itself, to read, rename and remove files in it.
func (d *Directory) Root() *os.Root { return d.root }

// Path is the directory's absolute path.
func (d *Directory) Path() string {
	if abs, err := filepath.Abs(d.root.Name()); err == nil {
		return abs
	}
	return d.root.Name()
}

// Traces is where the files of captures are, below the evidence directory: a directory for
// each capture, named by its id.
const Traces = "traces"

// Packets is the file of a capture's packets, beside its traces.
const Packets = "packets.pcapng"

// Create makes the file of a trace in the directory itself, mode 0600, and sets its File.Path.
// What is written to it is masked. It follows no link and never opens a file that is there
// already: the name is "PID-name-ID.strace", and the name is the process's to choose.
func (d *Directory) Create(t *event.Trace) (io.WriteCloser, error) { return d.create("", t) }

// CreateInCapture makes the file of a trace as Create does, in the directory of its capture.
func (d *Directory) CreateInCapture(t *event.Trace) (io.WriteCloser, error) {
	dir := filepath.Join(Traces, t.Culprit.Capture.ID)
	if err := d.root.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of a capture: %w", err)
	}
	return d.create(dir, t)
}

func (d *Directory) create(dir string, t *event.Trace) (io.WriteCloser, error) {
	mask := d.mask.Load()
	name := fmt.Sprintf("%d-%s-%s.strace", t.Process.PID, text.FileName(mask.Text(t.Process.Name)), t.Event.ID)
	name = filepath.Join(dir, name)
	f, err := d.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make a trace file: %w", err)
	}
	t.File.Path = filepath.Join(d.Path(), name)
	return maskLines(f, mask), nil
}

// ParseName reads the names that Create makes.
func ParseName(name string) (pid int, id ulid.ULID, ok bool) {
	base, ok := strings.CutSuffix(name, ".strace")
	if !ok || len(base) <= ulid.EncodedSize {
		return 0, id, false
	}
	first, _, _ := strings.Cut(base, "-")
	pid, err1 := strconv.Atoi(first)
	id, err2 := ulid.ParseStrict(base[len(base)-ulid.EncodedSize:])
	return pid, id, err1 == nil && err2 == nil
}

// MarkPartial adds to a trace file that it is not complete, and returns its size.
func (d *Directory) MarkPartial(path string, because *event.Ended) (int64, error) {
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

// Plain makes sure that a file is not there, or is an ordinary one of ours.
func (d *Directory) Plain(name string) error {
	info, err := d.root.Lstat(name)
	if err != nil {
		return nil
	}
	if !info.Mode().IsRegular() || int(info.Sys().(*syscall.Stat_t).Uid) != os.Geteuid() {
		return fmt.Errorf("%s is not an ordinary file of ours: move it away", filepath.Join(d.Path(), name))
	}
	return nil
}
