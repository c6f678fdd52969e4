// Package tracefile reads and writes a trace file, whether it is compressed or not.
//
// A trace has one name, as the catalogue has it: "…/812-php-ID.strace". Once it is
// closed it may be compressed; then the file is that name and [Suffix].
package tracefile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

const (
	// Suffix is what the name of a compressed trace has more. `zstdless` and
	// `zstdgrep` read such a file.
	Suffix = ".zst"
	// Unfinished is the suffix while a trace is being compressed. Such a file is
	// of no use to anybody once its maker has died.
	Unfinished = Suffix + ".tmp"
)

// window is how far back the compressor looks, in bytes. A larger one gains little
// with traces, and costs every reader that memory.
const window = 1 << 20

// maxWindow is what zstd(1) accepts without being asked, in bytes: a trace that was
// compressed again by hand can still be read.
const maxWindow = 128 << 20

// A Trace is an open trace, to be read uncompressed.
type Trace struct {
	file    *os.File
	decoder *zstd.Decoder // nil: it is not compressed
	keep    bool          // the decoder is an Opener's
}

// An Opener opens one trace after the other with the same decoder: for many small
// ones, making a decoder takes longer than using it. The zero Opener is ready. The
// trace that was opened before must be closed. Not safe for concurrent use.
type Opener struct{ decoder *zstd.Decoder }

// Open opens the trace of that name, or its compressed form if that is what is there.
// It follows no link and opens only regular files, and never waits. If there is
// neither, the error is an [fs.ErrNotExist]. The caller closes it.
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
	// Compressing makes the new file before it removes the old: who looks in this
	// order always finds one.
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
		// Without goroutines of its own: who reads many files reads them in parallel.
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

// Path is the path of the file that is read.
func (t *Trace) Path() string { return t.file.Name() }

// Read reads the uncompressed trace. A compressed one that is damaged or cut short
// gives an error that is not [io.EOF].
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

// Compress replaces the closed trace of that name by its compressed form, which has
// the same modification time, and mode 0600. Whenever it is interrupted, at least one
// whole file is there; what is unfinished goes with the next Compress or [Remove]. One
// Compress of a trace may run at a time. It ends early with the context.
func Compress(ctx context.Context, name string) error {
	c := compressing{ctx: ctx, name: name}
	for _, step := range c.steps() {
		if err := step(); err != nil {
			c.abandon()
			return fmt.Errorf("compress the trace %s: %w", name, err)
		}
	}
	return nil
}

// compressing is a trace on its way to its compressed form.
type compressing struct {
	ctx  context.Context
	name string
	from *os.File
	to   *os.File
}

// steps are what is to be done, in order. After any of them the power may fail.
func (c *compressing) steps() []func() error {
	return []func() error{c.open, c.write, c.rename, c.remove}
}

func (c *compressing) open() (err error) {
	if c.from, err = open(c.name); err != nil {
		return err
	}
	// One that was left by somebody who was killed.
	if err := os.Remove(c.name + Unfinished); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	c.to, err = os.OpenFile(c.name+Unfinished, os.O_CREATE|os.O_EXCL|os.O_WRONLY|unix.O_NOFOLLOW, 0o600)
	return err
}

func (c *compressing) write() error {
	info, err := c.from.Stat()
	if err != nil {
		return err
	}
	z, err := zstd.NewWriter(c.to, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(window), zstd.WithLowerEncoderMem(true), zstd.WithZeroFrames(true))
	if err != nil {
		return err
	}
	if _, err := io.Copy(z, untilDone{c.ctx, c.from}); err != nil {
		z.Close()
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	if err := os.Chtimes(c.to.Name(), info.ModTime(), info.ModTime()); err != nil {
		return err
	}
	return c.to.Sync()
}

// rename lets the compressed trace be seen, and makes sure that it stays.
func (c *compressing) rename() error {
	if err := os.Rename(c.to.Name(), c.name+Suffix); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(c.name))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

func (c *compressing) remove() error {
	return errors.Join(os.Remove(c.name), c.from.Close(), c.to.Close())
}

// abandon closes what is open and removes what is unfinished.
func (c *compressing) abandon() {
	if c.from != nil {
		c.from.Close()
	}
	if c.to != nil {
		c.to.Close()
		os.Remove(c.name + Unfinished)
	}
}

// untilDone is a reader that fails once its context has ended.
type untilDone struct {
	ctx context.Context
	r   io.Reader
}

func (u untilDone) Read(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.r.Read(p)
}

// Remove removes the trace of that name in all its forms below root. That there is
// none is no error.
func Remove(root *os.Root, name string) error {
	var errs []error
	for _, suffix := range []string{Unfinished, Suffix, ""} {
		if err := root.Remove(name + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("remove a trace: %w", err))
		}
	}
	return errors.Join(errs...)
}
