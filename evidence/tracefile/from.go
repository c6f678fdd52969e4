package tracefile

import (
	"context"
	"fmt"
	"io"
)

// Index returns the index of the trace as far as its file has one: that of a compressed trace which is longer
// than a MiB. Otherwise it is empty, for [Trace.Extend].
func (t *Trace) Index() *Index {
	if t.decoder != nil {
		if x, err := readStored(t.file); err == nil {
			return x
		}
	}
	return new(Index)
}

// Extend reads the trace on from where an index of it ends, which it goes on with, until the end of the file
// or of the context. A compressed trace without an index is read from its begin.
func (t *Trace) Extend(ctx context.Context, x *Index) error {
	if t.decoder != nil {
		if x.End.File > 0 {
			return nil // the file was closed before its index was made
		}
		*x = Index{}
	}
	if err := t.From(Point{File: x.End.Text}); err != nil {
		return err
	}
	buf := make([]byte, 256<<10)
	for {
		if t.decoder == nil || x.End.Text == 0 {
			x.mark(x.End.Text)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := t.Read(buf)
		x.Write(buf[:n])
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	if t.decoder == nil {
		x.End.File = x.End.Text
		return nil
	}
	info, err := t.file.Stat()
	if err == nil {
		x.End.File = info.Size()
	}
	return err
}

// From makes the next Read begin at a point of the trace's index.
func (t *Trace) From(p Point) error {
	_, err := t.file.Seek(p.File, io.SeekStart)
	if err == nil && t.decoder != nil {
		err = t.decoder.Reset(t.file)
	}
	if err != nil {
		return fmt.Errorf("read the trace %s from byte %d on: %w", t.file.Name(), p.File, err)
	}
	return nil
}

// Compressed reports whether the file is.
func (t *Trace) Compressed() bool { return t.decoder != nil }
