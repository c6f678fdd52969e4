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

	"culprit/internal/during"
)

// Compress replaces the closed trace of that name with a compressed file of the same modification
// time, mode 0600. If it is interrupted, at least one whole file remains, and the next Compress or
// [Remove] removes the unfinished one. Only one Compress of a trace may run. It stops with an
// error when the context ends.
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

// compressing is a trace that is being compressed.
type compressing struct {
	ctx  context.Context
	name string
	from *os.File
	to   *os.File
}

// steps returns what to do, in order. The power may fail after any step.
func (c *compressing) steps() []func() error {
	return []func() error{c.open, c.write, c.rename, c.remove}
}

func (c *compressing) open() (err error) {
	if c.from, err = open(c.name); err != nil {
		return err
	}
	// Somebody who was killed may have left one.
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
	if err := c.frames(); err != nil {
		return err
	}
	if err := os.Chtimes(c.to.Name(), info.ModTime(), info.ModTime()); err != nil {
		return err
	}
	return c.to.Sync()
}

// frames writes the text in frames, and the index if there are several.
func (c *compressing) frames() error {
	z, err := zstd.NewWriter(c.to, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(window), zstd.WithLowerEncoderMem(true), zstd.WithZeroFrames(true))
	if err != nil {
		return err
	}
	defer z.Reset(nil)
	var index Index
	from := io.TeeReader(during.Reader(c.ctx, c.from), &index)
	for first := true; ; first = false {
		at, err := c.to.Seek(0, io.SeekCurrent)
		if err != nil {
			return err
		}
		index.mark(at)
		z.Reset(c.to)
		n, err := io.CopyN(z, from, blockSize)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if n == 0 && !first {
			break // the text ended with the last frame
		}
		if ended := z.Close(); ended != nil {
			return ended
		}
		if err != nil {
			break
		}
	}
	if len(index.Points) == 1 {
		return nil
	}
	if index.End.File, err = c.to.Seek(0, io.SeekCurrent); err != nil {
		return err
	}
	stored, err := appendStored(nil, &index)
	if err == nil {
		_, err = c.to.Write(stored)
	}
	return err
}

// rename gives the compressed trace its name, and makes sure that it survives a power failure.
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

// abandon closes open files and removes the unfinished one.
func (c *compressing) abandon() {
	if c.from != nil {
		c.from.Close()
	}
	if c.to != nil {
		c.to.Close()
		os.Remove(c.name + Unfinished)
	}
}
