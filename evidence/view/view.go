// Package view shows a trace from any of its lines, however long it is: the lines around one, those of a thread, and
// what a search finds from there on in both directions. It keeps nothing per line.
package view

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"

	"culprit/evidence/tracefile"
)

// Indexes opens traces. It keeps the indexes of those that were opened last, as making one reads the whole trace unless
// its file has it. Safe for concurrent use.
type Indexes struct {
	most   int
	mu     sync.Mutex
	traces []*known // the one that was opened last comes last
}

// known is a trace that was opened. Whoever has its turn may change it.
type known struct {
	name  string
	turn  chan struct{}
	file  fs.FileInfo // when it was read last; nil: never
	index *tracefile.Index
	all   bool // the index knows all of that file
}

// NewIndexes returns Indexes that keep so many.
func NewIndexes(most int) *Indexes { return &Indexes{most: most} }

// A Trace is an open trace. Not safe for concurrent use.
type Trace struct {
	*tracefile.Trace
	// Index does not change, even if the trace grows.
	Index *tracefile.Index
	// All says that the index knows the whole trace.
	All bool
}

// Open opens a trace without an index, to read it once from its begin: it finds any line, but only by reading all before it.
func Open(name string) (*Trace, error) {
	f, err := tracefile.Open(name)
	if err != nil {
		return nil, err
	}
	return &Trace{Trace: f, Index: new(tracefile.Index)}, nil
}

// Open opens the trace of that name, compressed or not. How long it reads a trace that it has no index of is bounded by
// patience: then All is false, and the next Open goes on, unless the trace is compressed without an index. If there is no
// such trace, the error is [fs.ErrNotExist]. The caller closes the Trace.
func (x *Indexes) Open(ctx, patience context.Context, name string) (*Trace, error) {
	f, err := tracefile.Open(name)
	if err != nil {
		return nil, err
	}
	k := x.known(name)
	select {
	case k.turn <- struct{}{}:
		defer func() { <-k.turn }()
	case <-ctx.Done():
		f.Close()
		return nil, ctx.Err()
	}
	all, err := k.extend(patience, f)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("look for the lines of a trace: %w", err)
	}
	return &Trace{f, k.index, all}, nil
}

// known returns what is known of a trace.
func (x *Indexes) known(name string) *known {
	x.mu.Lock()
	defer x.mu.Unlock()
	i := slices.IndexFunc(x.traces, func(k *known) bool { return k.name == name })
	var k *known
	if i >= 0 {
		k = x.traces[i]
		x.traces = slices.Delete(x.traces, i, i+1)
	} else {
		k = &known{name: name, turn: make(chan struct{}, 1)}
		if len(x.traces) >= x.most {
			x.traces = slices.Delete(x.traces, 0, 1)
		}
	}
	x.traces = append(x.traces, k)
	return k
}

// extend brings the index to the end of the file, as far as patience allows.
func (k *known) extend(patience context.Context, f *tracefile.Trace) (all bool, err error) {
	now, err := f.Stat()
	if err != nil {
		return false, err
	}
	same := k.file != nil && os.SameFile(k.file, now)
	switch {
	case same && k.all && k.file.Size() == now.Size() && k.file.ModTime().Equal(now.ModTime()):
		return true, nil
	case same && !f.Compressed() && now.Size() >= k.index.End.Text:
		k.index = k.index.Clone() // others may be reading the old one
	default:
		k.index = f.Index()
	}
	k.file, k.all = now, false
	if err := f.Extend(patience, k.index); err != nil {
		if patience.Err() != nil {
			return false, nil
		}
		k.file = nil
		return false, err
	}
	k.all = true
	return true, nil
}
