package strace

import (
	"bytes"
	"errors"
	"io"
	"iter"
)

const (
	longPart  = 64 << 10 // bytes of buffer kept for the next line that comes in pieces
	pieceSize = 64 << 10 // bytes that All reads at a time
	endSize   = 64       // bytes that End returns: enough to see what a call returned
)

// Lines splits a stream into lines. The stream comes in pieces of any size:
//
//	for rest := piece; ; {
//		line, more, ok := lines.Next(rest)
//		if !ok {
//			break // the end of the line is in a later piece
//		}
//		…
//		rest = more
//	}
type Lines struct {
	keep    int
	number  int64
	offset  int64
	length  int64
	part    []byte // what is kept of the earlier pieces of the line
	end     []byte // the last bytes of a line that comes in pieces
	skipped bool
	ended   bool // the line was returned
}

// NewLines returns Lines that keep the first keep bytes of a line that comes in several pieces.
func NewLines(keep int) *Lines { return &Lines{keep: keep, number: 1} }

// Next returns the first line that ends in p, without its end, and the rest of p. If no line
// ends in p it keeps p for a later piece. A line that began in an earlier piece may be cut, and
// is nil if it was skipped. It is valid until Next is called again.
func (l *Lines) Next(p []byte) (line, rest []byte, ok bool) {
	if l.ended {
		l.number++
		l.offset += l.length + 1
		l.length, l.end = 0, l.end[:0]
		l.ended = false
	}
	i := bytes.IndexByte(p, '\n')
	if i < 0 {
		l.add(p)
		return nil, nil, false
	}
	l.ended = true
	if l.length == 0 {
		l.length = int64(i)
		return p[:i], p[i+1:], true
	}
	l.add(p[:i])
	return l.take(), p[i+1:], true
}

// Last returns the line without an end, when the stream is over.
func (l *Lines) Last() (line []byte, ok bool) {
	if l.ended || l.length == 0 {
		return nil, false
	}
	l.ended = true
	return l.take(), true
}

// All reads r to its end and yields its lines, which are as Next returns them; the last one may
// lack its end. An error of r comes last, without a line.
func (l *Lines) All(r io.Reader) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for buf := make([]byte, pieceSize); ; {
			n, err := r.Read(buf)
			for rest := buf[:n]; ; {
				line, more, ok := l.Next(rest)
				if !ok {
					break
				}
				if !yield(line, nil) {
					return
				}
				rest = more
			}
			if err == nil {
				continue
			}
			if !errors.Is(err, io.EOF) {
				yield(nil, err)
			} else if line, ok := l.Last(); ok {
				yield(line, nil)
			}
			return
		}
	}
}

// Number is the number of the line that was returned last or has begun, from 1.
func (l *Lines) Number() int64 { return l.number }

// Offset is where that line begins in the stream, in bytes.
func (l *Lines) Offset() int64 { return l.offset }

// Length is the length of that line so far, in bytes, without its end. If the returned line is
// shorter, it was cut or skipped.
func (l *Lines) Length() int64 { return l.length }

// End returns the last bytes of that line if it came in pieces, even if it was cut. It is
// valid until Next is called again.
func (l *Lines) End() []byte { return l.end }

// Begun returns what is kept of a line whose end has not come yet.
func (l *Lines) Begun() []byte {
	if l.ended {
		return nil
	}
	return l.part
}

// Skip drops the line whose end has not come yet.
func (l *Lines) Skip() { l.skipped, l.part = true, l.part[:0] }

func (l *Lines) add(b []byte) {
	l.length += int64(len(b))
	end := append(l.end, last(b)...)
	l.end = append(end[:0], last(end)...)
	if !l.skipped {
		l.part = append(l.part, b[:min(len(b), l.keep-len(l.part))]...)
	}
}

// last returns what is kept of the end of b.
func last(b []byte) []byte { return b[max(0, len(b)-endSize):] }

// take returns the line that came in pieces, and makes room for the next.
func (l *Lines) take() []byte {
	line := l.part
	if l.skipped {
		line = nil
	}
	l.part, l.skipped = l.part[:0], false
	if cap(l.part) > longPart {
		l.part = nil
	}
	return line
}
