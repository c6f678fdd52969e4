// Package directory keeps the evidence directory: its trace files, masked on their way to the
// disk, and the lock of the culprit that runs with it.
package directory

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/oklog/ulid/v2"
	"golang.org/x/sys/unix"

	"culprit/internal/event"
	"culprit/internal/redact"
	"culprit/internal/strace"
	"culprit/internal/text"
	"culprit/internal/words"
)

// A Directory is an open directory of evidence. Safe for concurrent use.
type Directory struct {
	root *os.Root
	lock *os.File // nil: we have not locked it
	mask atomic.Pointer[redact.Patterns]
}

// Open opens dir. If dir does not exist, it is made, for us alone. Open refuses a directory in
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

// Close closes the directory and releases its lock. Files made in it stay open.
func (d *Directory) Close() error {
	if d.lock != nil {
		defer d.lock.Close()
	}
	return d.root.Close()
}

// Root returns the open directory, for reading, renaming and removing files in it.
func (d *Directory) Root() *os.Root { return d.root }

// Path returns the directory's absolute path.
func (d *Directory) Path() string {
	if abs, err := filepath.Abs(d.root.Name()); err == nil {
		return abs
	}
	return d.root.Name()
}

// Names in the evidence directory.
const (
	Traces  = "traces"         // holds a directory for each capture, named by its id
	Packets = "packets.pcapng" // the packets of a capture, beside its traces
)

// Create makes the file of a trace in the directory itself, mode 0600, and sets File.Path of
// the trace. Writes to it are masked. Create follows no link and never opens an existing file:
// the file is called "PID-name-ID.strace", and the process chooses its own name.
func (d *Directory) Create(t *event.Trace) (io.WriteCloser, error) { return d.create("", t) }

// CreateInCapture is like Create, but makes the file in the directory of the trace's capture.
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

// ParseName splits a file name that Create made.
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

// MarkPartial appends to a trace file that it is incomplete, and why. It returns the file's size.
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
	return f.Seek(0, io.SeekEnd)
}

// Plain returns an error if a file exists that is not a regular file of ours.
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

// InPlace returns an error if the directory is no longer where its name points to. Through
// open descriptors we could still write to a directory that was moved or removed, and nobody
// would find what we wrote: so callers ask before they write. If the directory is put back we
// go on. A different directory in its place is left to the next culprit, as Open checks it.
func (d *Directory) InPlace() error {
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

// Free returns how many bytes are free on the file system of the directory.
func (d *Directory) Free() (int64, error) { return Free(d.Path()) }

// Free returns how many bytes are free on the file system of a path.
func Free(path string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, fmt.Errorf("ask for the free disk of %s: %w", path, err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}

// Put writes a file as a whole, or not at all, in the place of the one that is there. While it is written its name ends with
// unfinished, by which the sweep knows what a culprit that was killed has left.
func (d *Directory) Put(name, unfinished string, write func(io.Writer) error) error {
	making := name + unfinished
	if err := d.root.Remove(making); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := d.root.OpenFile(making, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err = errors.Join(write(f), f.Close()); err == nil {
		err = d.root.Rename(making, name)
	}
	if err != nil {
		d.root.Remove(making)
	}
	return err
}

// Redact sets what is masked in traces that begin from now on.
func (d *Directory) Redact(p *redact.Patterns) { d.mask.Store(p) }

// Mask returns what is masked now; nil masks nothing.
func (d *Directory) Mask() *redact.Patterns { return d.mask.Load() }

// maskedFile masks lines on their way into a file.
type maskedFile struct {
	*redact.Masker
	file *os.File
}

func (f maskedFile) Close() error { return errors.Join(f.Masker.Close(), f.file.Close()) }

// maskLines returns a file that masks the lines written to f.
func maskLines(f *os.File, p *redact.Patterns) io.WriteCloser {
	if p == nil {
		return f
	}
	return maskedFile{p.Masker(f.Write, strace.Spare), f}
}
