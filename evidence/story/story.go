// Package story tells what a program did, as the lines of its trace show it: how it was started,
// what it opened, whom it asked, what it was told, and where it went then.
//
// Nothing here opens files or knows a clock. What the traced program chose is hostile: memory is
// bounded, and what is left out is counted.
package story

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"time"

	"culprit/internal/event"
	"culprit/internal/strace"
)

// A Story is what the traces of one process tell about its packets.
type Story struct {
	Steps []Step
	// Answers has what the process was told, by the id of the hit; nil if the lines show no answer.
	Answers map[string]*Answer
	// Traces are those that could be read.
	Traces []*event.Trace
}

// Of says whose story it is.
type Of struct {
	// Hits are of one process, by time.
	Hits []*event.Hit
	// Traces show what it did. Where two show the same call, the first one of them counts.
	Traces []Trace
}

// A Trace is read twice. A look-back has only the sender and its parents; another trace may have more,
// of whom only those count that started the sender or that it started.
type Trace struct {
	*event.Trace
	Open func() (io.ReadCloser, error)
}

// A Place is a line of a trace.
type Place struct {
	Trace string // its id
	Line  int64  // from 1
}

// Bounds of what is read.
const (
	follow     = 30 * time.Second // after the last packet
	maxText    = 16 << 10         // bytes of a line
	maxPending = 1024             // calls that have begun and not ended
)

// Read reads the traces of a process, one of which may end where another one has begun. What cannot be read is left out;
// the error says why.
func Read(of Of) (*Story, error) {
	sources, failed := open(of)
	t := newTeller(of, sources)
	err := merge(sources, t.until, t.line)
	return t.story(), errors.Join(failed, err)
}

// line is a line of a trace, and the one where its call ended.
type line struct {
	from   *source
	number int64 // of the one that shows most
	tid    int
	at     time.Time // when the call began; in a look-back when it returned
	shown  time.Time // when the last of the lines was written
	name   string    // of the call, "" for the end of a thread
	text   []byte    // what follows the bracket after the name, or the line that shows the end
}

// returned returns the result of the call.
func (l *line) returned() int64 { return strace.Text(l.text).Returned() }

// place says where the line is.
func (l *line) place() Place { return Place{l.from.Event.ID, l.number} }

// lines returns all lines until a time. Each is valid until the next.
func (s *source) lines(until time.Time) iter.Seq2[*line, error] {
	return func(yield func(*line, error) bool) {
		f, err := s.Open()
		if err != nil {
			yield(nil, err)
			return
		}
		defer f.Close()
		all := strace.NewLines(maxText)
		pending := map[int]line{}
		for b, err := range all.All(f) {
			if err != nil {
				yield(nil, fmt.Errorf("read a trace: %w", err))
				return
			}
			tid, stamp, text := strace.ParseLine(b[:min(len(b), maxText)])
			if text == nil {
				continue
			}
			l := line{from: s, number: all.Number(), tid: tid, at: stamp.Time(), name: string(text.Name())}
			l.shown = l.at
			if l.at.After(until) {
				return
			}
			if l.read(text, pending) && !yield(&l, nil) {
				return
			}
		}
	}
}

// read reads what a line shows. !ok: the rest of the call comes later, or nothing that tells anything.
func (l *line) read(text strace.Text, pending map[int]line) (ok bool) {
	switch text.Kind() {
	case strace.KindCall:
		l.text = text[min(len(text), len(l.name)+1):]
		begin, unfinished := strace.CutUnfinished(l.text)
		if unfinished && len(pending) < maxPending {
			p := *l
			p.text = slices.Clone(begin)
			pending[l.tid] = p
		}
		return !unfinished
	case strace.KindResumed:
		p, ok := pending[l.tid]
		if !ok {
			return false
		}
		delete(pending, l.tid)
		end, ok := text.CutResumed(p.name)
		if !ok {
			return false
		}
		if !slices.Contains(p.text, '"') { // what it is about is shown here
			p.number = l.number
		}
		p.text, p.shown = append(p.text, end...), l.shown
		*l = p
		return true
	case strace.KindEnd:
		l.name, l.text = "", text
		return true
	}
	return false
}
