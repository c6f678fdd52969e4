package view

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"culprit/evidence/grep"
	"culprit/internal/strace"
)

// maxText bounds what is kept of a line, in bytes. Trace.Piece has the rest.
const maxText = 4 << 10

// A Line is a line of a trace.
type Line struct {
	Number int64  // from 1
	Text   []byte // its first 4 KiB
	Length int64  // in bytes
}

// A Query chooses lines.
type Query struct {
	From int64 // the line with this number is the first
	Back bool  // the nearest ones before From, instead of From and those after it
	Most int   // only so many
	TID  int   // only those of this thread, if it is not 0
	// Pattern is what they match; nil: all.
	Pattern *grep.Pattern
}

// Found is what a query found.
type Found struct {
	Lines []Line // in the order of the trace
	// On is where the query goes on as its From, if its time was over before it had looked at everything or found as
	// many as it wanted; otherwise 0.
	On int64
}

// Lines returns the lines of a query. Once patience ends it returns what it has found until then; once ctx ends it fails.
func (t *Trace) Lines(ctx, patience context.Context, q Query) (Found, error) {
	q.From = max(q.From, 1)
	if q.Back {
		q.From = min(q.From, t.Index.Lines()+1)
	}
	if q.Back && q.TID == 0 && q.Pattern == nil { // where they begin is known
		first := max(1, q.From-int64(q.Most))
		q.From, q.Back, q.Most = first, false, int(q.From-first)
	}
	if q.Most <= 0 {
		return Found{}, nil
	}
	l := &look{Trace: t, Query: q, ctx: ctx}
	if q.TID != 0 {
		l.begin = fmt.Appendf(nil, "%d ", q.TID)
	}
	if l.Pattern != nil {
		l.scanner = grep.NewScanner(l.Pattern)
	}
	var err error
	if q.Back {
		err = l.back(patience)
	} else {
		l.found.On, err = l.span(patience, q.From, 0)
	}
	if err != nil {
		return Found{}, fmt.Errorf("read the lines of a trace: %w", err)
	}
	return l.found, nil
}

// look is a query that looks.
type look struct {
	*Trace
	Query
	ctx     context.Context
	begin   []byte        // of the lines of the thread; nil: of any
	scanner *grep.Scanner // nil: there is no pattern
	found   Found
}

// span looks at the lines from first to last; 0 is the last of the trace. It returns where to go on if patience ended.
func (l *look) span(patience context.Context, first, last int64) (on int64, err error) {
	r, err := l.reader(l.ctx, first, last)
	if err != nil {
		return 0, err
	}
	if l.scanner != nil || l.TID != 0 {
		r.patience = patience
	}
	if l.scanner != nil {
		err = l.scanner.Scan(r, func(n int64, line []byte) bool { return l.take(first+n-1, line, int64(len(line))) })
	} else {
		err = l.each(r, first)
	}
	if errors.Is(err, errPatience) {
		return r.line, nil
	}
	return 0, err
}

// each takes every line.
func (l *look) each(r io.Reader, first int64) error {
	lines := strace.NewLines(maxText)
	for line, err := range lines.All(r) {
		if err != nil {
			return err
		}
		if !l.take(first+lines.Number()-1, line, lines.Length()) {
			break
		}
	}
	return nil
}

// take takes a line that matches, and says whether more are wanted.
func (l *look) take(number int64, line []byte, length int64) bool {
	if !bytes.HasPrefix(line, l.begin) {
		return true
	}
	l.found.Lines = append(l.found.Lines, Line{number, bytes.Clone(line[:min(len(line), maxText)]), length})
	if l.Back { // the last ones count
		if n := len(l.found.Lines); n >= 2*l.Most {
			l.found.Lines = slices.Delete(l.found.Lines, 0, n-l.Most)
		}
		return true
	}
	return len(l.found.Lines) < l.Most
}

// back looks block by block, the last one first. However little patience there is, it looks at one.
func (l *look) back(patience context.Context) error {
	var all []Line
	last := l.From - 1
	points := l.Index.Points
	for i := len(points) - 1; i >= 0 && last > 0; i-- {
		first := points[i].Line + 1
		if i == 0 {
			first = 1
		}
		if first > last {
			continue
		}
		l.found.Lines = nil
		enough := patience
		if last == l.From-1 {
			enough = nil
		}
		on, err := l.span(enough, first, last)
		if err != nil {
			return err
		}
		if on > 0 { // what the rest of the block has is not known, and would come first
			l.found.On = last + 1
			break
		}
		all = append(l.found.Lines, all...)
		if last = first - 1; len(all) >= l.Most {
			break
		}
	}
	l.found.Lines = all[max(0, len(all)-l.Most):]
	return nil
}

// Piece returns a part of a line, from a byte on, and how long the line is.
func (t *Trace) Piece(ctx context.Context, line, from int64, size int) (piece []byte, length int64, err error) {
	r, err := t.reader(ctx, line, line)
	if err != nil {
		return nil, 0, err
	}
	if length, err = io.CopyN(io.Discard, r, max(0, from)); err == nil {
		piece = make([]byte, size)
		var n int
		if n, err = io.ReadFull(r, piece); errors.Is(err, io.ErrUnexpectedEOF) {
			err = nil
		}
		piece = piece[:n]
		length += int64(n)
	}
	if err == nil {
		var rest int64
		rest, err = io.Copy(io.Discard, r)
		length += rest
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, 0, fmt.Errorf("read a line of a trace: %w", err)
	}
	if r.ended {
		length-- // the end of the line is not shown
		piece = piece[:min(int64(len(piece)), max(0, length-from))]
	}
	return piece, max(0, length), nil
}
