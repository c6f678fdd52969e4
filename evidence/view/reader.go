package view

import (
	"bytes"
	"context"
	"errors"
	"io"
)

// errPatience means that the time for a query is over.
var errPatience = errors.New("it takes too long")

// lineReader reads some lines of a trace.
type lineReader struct {
	ctx      context.Context
	patience context.Context // nil: without end
	r        io.Reader
	skip     int64 // line ends to pass over first
	line     int64 // the number of the line that is read next, or goes on
	last     int64 // the number of the last line; 0: to the end
	ended    bool  // the end of the last line was read
	moved    bool  // something was read since the first line began
}

// reader reads the lines from first to last of the trace; 0 is the last.
func (t *Trace) reader(ctx context.Context, first, last int64) (*lineReader, error) {
	at := t.Index.Before(first)
	if err := t.From(at); err != nil {
		return nil, err
	}
	return &lineReader{ctx: ctx, r: t.Trace, skip: first - at.Line, line: first, last: last}, nil
}

// Read reads on. However little patience there is, it reads something, so that whoever goes on gets on.
func (l *lineReader) Read(p []byte) (int, error) {
	for {
		switch {
		case l.ended:
			return 0, io.EOF
		case l.ctx.Err() != nil:
			return 0, l.ctx.Err()
		case l.patience != nil && l.moved && l.patience.Err() != nil:
			return 0, errPatience
		}
		n, err := l.r.Read(p)
		b := p[:n]
		if l.skip > 0 {
			ends := int64(bytes.Count(b, newline))
			if ends < l.skip {
				if l.skip -= ends; err != nil {
					return 0, err
				}
				continue
			}
			b = b[after(b, l.skip):]
			l.skip = 0
		}
		ends := int64(bytes.Count(b, newline))
		if l.last > 0 && l.line+ends > l.last {
			ends = l.last - l.line + 1
			b = b[:after(b, ends)]
			l.ended = true
		}
		if len(b) == 0 && err == nil && !l.ended {
			continue
		}
		l.line += ends
		l.moved = l.moved || ends > 0
		return copy(p, b), err
	}
}

var newline = []byte{'\n'}

// after returns where the text after the nth line end begins.
func after(b []byte, n int64) (at int) {
	for ; n > 0; n-- {
		at += bytes.IndexByte(b[at:], '\n') + 1
	}
	return at
}
