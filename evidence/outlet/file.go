package outlet

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"culprit/evidence/outlet/ocsf"
)

// A File appends events to a file. Others may rename it at any time: the next event then begins a
// new file.
type File struct {
	path  string
	f     *os.File
	taken uint64
}

// OpenFile opens the file, or makes one that only we can read, and its directory if that alone is
// missing. It removes half a line that a killed culprit wrote, and refuses a file that does not
// hold events.
func OpenFile(path string) (*File, error) {
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("events.file: make its directory: %w", err)
	}
	o := &File{path: path}
	last, err := o.open()
	if err != nil {
		return nil, err
	}
	if o.taken = last; last == 0 { // it may have been renamed
		o.taken = lastOfRenamed(path)
	}
	return o, nil
}

// open opens the file and returns the number of its last event.
func (o *File) open() (last uint64, err error) {
	f, err := os.OpenFile(o.path, os.O_RDWR|os.O_APPEND|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return 0, fmt.Errorf("events.file: %w", err)
	}
	info, err := f.Stat()
	switch {
	case err != nil:
	case !info.Mode().IsRegular():
		err = errors.New("it is not an ordinary file: name one, or use events.command")
	case int(info.Sys().(*syscall.Stat_t).Uid) != os.Geteuid() || info.Mode().Perm()&0o022 != 0:
		err = errors.New("others could write to it: it must belong to root and be writable by nobody else")
	case unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil:
		err = errors.New("another culprit writes to it: give each a file of its own")
	}
	if err == nil {
		last, err = repair(f)
	}
	if err != nil {
		f.Close()
		return 0, fmt.Errorf("events.file %s: %w", o.path, err)
	}
	o.f = f
	return last, nil
}

// tailSize is how much of a file is read to find its last line, many times the longest.
const tailSize = 4 << 20

// repair cuts half a line off the end of a file. It returns the number of the last event, 0 if the
// file is empty.
func repair(f *os.File) (uint64, error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil || size == 0 {
		return 0, err
	}
	tail := make([]byte, min(size, tailSize))
	if _, err := f.ReadAt(tail, size-int64(len(tail))); err != nil {
		return 0, err
	}
	whole := tail[:bytes.LastIndexByte(tail, '\n')+1]
	last, ok := lastIn(whole)
	if len(whole) == 0 {
		ok = bytes.HasPrefix(tail, []byte(`{"ecs":`)) || bytes.HasPrefix(tail, []byte(ocsf.Prefix)) // the beginning of the first
	}
	if !ok {
		return 0, errors.New("it does not end with an event of culprit: name another file, or move this one away")
	}
	if cut := len(tail) - len(whole); cut > 0 {
		return last, f.Truncate(size - int64(cut))
	}
	return last, nil
}

// lastIn finds the last event in lines. Others may have appended something else.
func lastIn(lines []byte) (last uint64, ok bool) {
	for !ok && len(lines) > 0 {
		begin := bytes.LastIndexByte(lines[:len(lines)-1], '\n') + 1
		last, ok = sequence(lines[begin:])
		lines = lines[:begin]
	}
	return last, ok
}

// sequence reads the number of an event from its line, in either format.
func sequence(line []byte) (uint64, bool) {
	var e struct {
		Event struct {
			Sequence uint64 `json:"sequence"`
			Module   string `json:"module"`
		} `json:"event"`
		Metadata struct {
			Sequence uint64 `json:"sequence"`
			Product  struct {
				Name string `json:"name"`
			} `json:"product"`
		} `json:"metadata"`
	}
	err := json.Unmarshal(line, &e)
	return max(e.Event.Sequence, e.Metadata.Sequence), err == nil && (e.Event.Module == "culprit" || e.Metadata.Product.Name == "culprit")
}

// renamed matches what logrotate and the like append to a file's name.
var renamed = regexp.MustCompile(`^[.-][0-9]`)

// lastOfRenamed returns the last event in the newest file that the path may have been renamed to,
// or 0.
func lastOfRenamed(path string) (last uint64) {
	entries, _ := os.ReadDir(filepath.Dir(path))
	var newest fs.FileInfo
	for _, e := range entries {
		info, err := e.Info()
		behind, ok := strings.CutPrefix(e.Name(), filepath.Base(path))
		if err != nil || !info.Mode().IsRegular() || !ok || !renamed.MatchString(behind) {
			continue
		}
		if newest == nil || info.ModTime().After(newest.ModTime()) {
			newest = info
		}
	}
	if newest == nil {
		return 0
	}
	f, err := os.Open(filepath.Join(filepath.Dir(path), newest.Name()))
	if err != nil {
		return 0
	}
	defer f.Close()
	tail := make([]byte, min(newest.Size(), tailSize))
	if _, err := f.ReadAt(tail, newest.Size()-int64(len(tail))); err != nil {
		return 0
	}
	last, _ = lastIn(tail)
	return last
}

// Send appends events, each as a whole or not at all.
func (o *File) Send(_ context.Context, events []Event) error {
	if err := o.follow(); err != nil {
		return err
	}
	size, err := o.f.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("events.file: %w", err)
	}
	var text strings.Builder
	for _, e := range events {
		text.WriteString(e.Line)
	}
	n, err := o.f.WriteString(text.String())
	whole := 0
	for _, e := range events {
		if whole+len(e.Line) > n {
			break
		}
		whole += len(e.Line)
		o.taken = e.Sequence
	}
	if n > whole {
		err = errors.Join(err, o.f.Truncate(size+int64(whole)))
	}
	if err != nil {
		return fmt.Errorf("events.file: %w", err)
	}
	return nil
}

// follow opens the path again if it no longer names our file.
func (o *File) follow() error {
	ours, err := o.f.Stat()
	if err != nil {
		return fmt.Errorf("events.file: %w", err)
	}
	if there, err := os.Lstat(o.path); err == nil && os.SameFile(ours, there) {
		return nil
	}
	old := o.f
	if _, err := o.open(); err != nil {
		return err
	}
	// Whoever can read the old file can read the new one, if we made that.
	if its, err := o.f.Stat(); err == nil && its.Size() == 0 && its.Mode().Perm() == 0o600 {
		_ = o.f.Chmod(ours.Mode().Perm())
	}
	return old.Close()
}

// Taken returns the last event in the file.
func (o *File) Taken() uint64 { return o.taken }

// Close closes the file.
func (o *File) Close(context.Context) error { return o.f.Close() }
