package grep

import (
	"bytes"
	"context"
	"runtime"

	"golang.org/x/sync/errgroup"

	"culprit/internal/strace"
)

// A Line is a line of a trace.
type Line struct {
	Number int64  // from 1
	Text   []byte // without its end
}

// Found is what was found in a trace, or a part of it.
type Found struct {
	Trace int    // which one, as its place in the list that is searched
	Path  string // the file that was read: compressed or not
	Lines []Line // nil with [Wanted] other than Lines
	Count int64  // of the lines that match, those in Lines and those that are not kept
	Err   error  // why the trace could not be read, or not to its end
}

// Wanted says how much of what is found is wanted.
type Wanted int

// What may be wanted.
const (
	Lines  Wanted = iota // each line
	Counts               // how many lines of each trace
	Names                // which traces have one
)

// Lines come in pieces of about so many bytes, and so many pieces of a trace wait
// for the traces before it to be printed.
const (
	pieceSize = 64 << 10
	pieces    = 4
)

// Search searches the traces of these names, several at a time, and calls found in
// their order, zero or more times for each; an error of found ends it. A trace that
// cannot be read is told to found, and does not end the search.
func Search(ctx context.Context, names []string, p *Pattern, wanted Wanted, found func(Found) error) error {
	g, ctx := errgroup.WithContext(ctx)
	workers := runtime.GOMAXPROCS(0)
	jobs := make(chan job)
	// The results are read in the order of the jobs, so the workers can be ahead of
	// the reader by this much, and no more.
	results := make(chan (<-chan Found), workers)
	g.Go(func() error {
		defer close(jobs)
		defer close(results)
		for i, name := range names {
			out := make(chan Found, pieces)
			select {
			case results <- out:
			case <-ctx.Done():
				return ctx.Err()
			}
			select {
			case jobs <- job{i, name, wanted, out}:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	for range workers {
		g.Go(func() error {
			s := newScanner(p)
			defer s.opener.Close()
			for j := range jobs {
				if err := j.run(ctx, s); err != nil {
					return err
				}
			}
			return nil
		})
	}
	g.Go(func() error {
		for result := range results {
			for more := true; more; {
				select {
				case f, ok := <-result:
					if more = ok; !ok {
						break
					}
					if err := found(f); err != nil {
						return err
					}
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		}
		return nil
	})
	return g.Wait()
}

// job is a trace to be searched.
type job struct {
	trace  int
	name   string
	wanted Wanted
	out    chan<- Found
}

// run searches the trace and closes its channel. Its error is only ever that of the
// context.
func (j job) run(ctx context.Context, s *scanner) error {
	defer close(j.out)
	send := func(f Found) error {
		select {
		case j.out <- f:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	t, err := s.opener.Open(j.name)
	if err != nil {
		return send(Found{Trace: j.trace, Path: j.name, Err: err})
	}
	defer t.Close()
	empty := Found{Trace: j.trace, Path: t.Path()}
	piece, size := empty, 0
	var ended error // of the context
	piece.Err = s.scan(t, func(number int64, line []byte) bool {
		if !s.comments && strace.IsComment(line) {
			return true
		}
		piece.Count++
		if j.wanted != Lines {
			return j.wanted == Counts
		}
		piece.Lines = append(piece.Lines, Line{number, bytes.Clone(line)})
		if size += len(line); size >= pieceSize {
			ended = send(piece)
			piece, size = empty, 0
		}
		return ended == nil
	})
	if ended != nil || piece.Count == 0 && piece.Err == nil {
		return ended
	}
	return send(piece)
}
