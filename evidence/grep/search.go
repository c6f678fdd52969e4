package grep

import (
	"bytes"
	"context"
	"runtime"

	"golang.org/x/sync/errgroup"
)

// A Line is a line of a trace.
type Line struct {
	Number int64  // from 1
	Text   []byte // without the newline
}

// Found is what was found in a trace, or in a part of it.
type Found struct {
	Trace int    // its index in the list that is searched
	Path  string // of the file that was read, compressed or not
	Lines []Line // nil unless [Lines] are wanted
	Count int64  // lines that match, including those in Lines
	Err   error  // why the trace could not be read to its end
}

// Wanted says what a search returns.
type Wanted int

// What a search can return.
const (
	Lines  Wanted = iota // each line
	Counts               // how many lines of each trace
	Names                // which traces have one
)

// Lines come in pieces, which wait until the traces before theirs are printed.
const (
	pieceSize = 64 << 10 // bytes of a piece, roughly
	pieces    = 4        // of a trace that may wait
)

// Search searches the traces of these names, several at a time. It calls found in their order,
// zero or more times for each, and ends with the first error of found. If a trace cannot be read,
// found gets the error and the search goes on.
func Search(ctx context.Context, names []string, p *Pattern, wanted Wanted, found func(Found) error) error {
	g, ctx := errgroup.WithContext(ctx)
	workers := runtime.GOMAXPROCS(0)
	jobs := make(chan job)
	// Results are read in the order of the jobs: the workers can be ahead by this many jobs.
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
			s := NewScanner(p)
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

// job is a trace to search.
type job struct {
	trace  int
	name   string
	wanted Wanted
	out    chan<- Found
}

// run searches the trace and closes its channel. It returns no error but the context's.
func (j job) run(ctx context.Context, s *Scanner) error {
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
	piece.Err = s.Scan(t, func(number int64, line []byte) bool {
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
