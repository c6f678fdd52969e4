// Package tracefile reads and writes a trace file, whether it is compressed or not.
//
// A trace has one name, which is in the catalogue: "…/812-php-ID.strace". A closed trace may be
// compressed; the name of its file then ends with [Suffix], too.
package tracefile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

const (
	// Suffix is appended to the name of a compressed trace. `zstdless` and `zstdgrep`
	// read such a file.
	Suffix = ".zst"
	// Unfinished is appended while a trace is being compressed. If its writer was killed
	// the file is useless.
	Unfinished = Suffix + ".tmp"
)

// window is how far back the compressor looks, in bytes. A larger one gains little for traces,
// and costs every reader that memory.
const window = 1 << 20

// maxWindow is what zstd(1) accepts by default, in bytes: we can read a trace that somebody
// compressed again by hand.
const maxWindow = 128 << 20

// A Trace is an open trace. Reading it gives the uncompressed text.
type Trace struct {
	file    *os.File
	decoder *zstd.Decoder // nil: it is not compressed
	keep    bool          // the decoder is an Opener's
}

// An Opener opens one trace after the other with the same decoder: making a decoder takes longer
// than decoding a small trace. The zero Opener is ready. Close each trace before opening the
// next. Not safe for concurrent use.
type Opener struct{ decoder *zstd.Decoder }

// Open opens the trace of that name, compressed or not. It follows no link, opens only regular
// files, and never blocks. If there is no such trace the error is [fs.ErrNotExist]. The caller
// closes the Trace.
func Open(name string) (*Trace, error) {
	t, err := new(Opener).Open(name)
	if err == nil {
		t.keep = false
	}
	return t, err
}

// Close frees the decoder.
func (o *Opener) Close() {
	if o.decoder != nil {
		o.decoder.Close()
	}
}

// Open is the function [Open].
func (o *Opener) Open(name string) (*Trace, error) {
	// Compress makes the new file before it removes the old: in this order we always find one.
	f, err := open(name)
	if err == nil {
		return &Trace{file: f}, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if f, err = open(name + Suffix); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("open the trace %s or its compressed form: %w", name, fs.ErrNotExist)
		}
		return nil, err
	}
	if o.decoder == nil {
		// Without goroutines of its own: whoever reads many files has one for each.
		o.decoder, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(true))
	}
	if err == nil {
		err = o.decoder.Reset(f)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("read the trace %s: %w", f.Name(), err)
	}
	return &Trace{f, o.decoder, true}, nil
}

// Exists reports whether there is a trace of that name, compressed or not.
func Exists(name string) bool {
	for _, suffix := range []string{"", Suffix} {
		if info, err := os.Lstat(name + suffix); err == nil && info.Mode().IsRegular() {
			return true
		}
	}
	return false
}

// open opens a regular file. O_NONBLOCK is for a FIFO in its place.
func open(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open the trace: %w", err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file: move it away", path)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open the trace: %w", err)
	}
	return f, nil
}

// Path returns the path of the open file.
func (t *Trace) Path() string { return t.file.Name() }

// Stat describes the file.
func (t *Trace) Stat() (fs.FileInfo, error) { return t.file.Stat() }

// Read reads the uncompressed text. If a compressed trace is damaged or cut short, the error is
// not [io.EOF].
func (t *Trace) Read(p []byte) (int, error) {
	if t.decoder == nil {
		return t.file.Read(p)
	}
	n, err := t.decoder.Read(p)
	if err != nil && err != io.EOF {
		err = fmt.Errorf("read the compressed trace %s: %w", t.file.Name(), err)
	}
	return n, err
}

// Close closes the trace.
func (t *Trace) Close() error {
	switch {
	case t.decoder == nil:
	case t.keep:
		t.decoder.Reset(nil)
	default:
		t.decoder.Close()
	}
	return t.file.Close()
}

// Remove removes all files of the trace of that name below root. It is no error if there are none.
func Remove(root *os.Root, name string) error {
	var errs []error
	for _, suffix := range []string{Unfinished, Suffix, ""} {
		if err := root.Remove(name + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("remove a trace: %w", err))
		}
	}
	return errors.Join(errs...)
}
