// Package story tells what a program did, as the lines of its trace show it: how it was started,
// what it opened, whom it asked, what it was told, and where it went then.
//
// Nothing here opens files or knows a clock. What the traced program chose is hostile: memory is
// bounded, and what is left out is counted.
package story

import (
	"fmt"
	"io"
	"slices"
	"time"

	"culprit/internal/event"
	"culprit/internal/strace"
)

// A Story is what a trace tells about the packets of one process.
type Story struct {
	Steps []Step
	// Answers has what the process was told, by the id of the hit; nil if the lines show no answer.
	Answers map[string]*Answer
}

// Of says whose story it is.
type Of struct {
	// Hits are of one process, by time.
	Hits []*event.Hit
	// Trace is what is read. A look-back has only the sender and its parents; another trace may
	// have more, of whom only those count that started the sender or that it started.
	Trace *event.Trace
}

// Bounds of what is read.
const (
	follow     = 30 * time.Second // after the last packet
	maxText    = 16 << 10         // bytes of a line
	maxPending = 1024             // calls that have begun and not ended
)

// Read reads a trace; open is called twice.
func Read(open func() (io.ReadCloser, error), of Of) (*Story, error) {
	k, err := readKin(open, of)
	if err != nil {
		return nil, err
	}
	t := newTeller(of, k)
	err = each(open, t.until, t.line)
	return t.story(), err
}

// line is a line of a trace, and the one where its call ended.
type line struct {
	number int64 // of the one that shows most
	tid    int
	at     time.Time // when the call began
	name   string    // of the call, "" for the end of a thread
	text   []byte    // what follows the bracket after the name, or the line that shows the end
}

// returned returns the result of the call.
func (l *line) returned() int64 { return strace.Text(l.text).Returned() }

// each calls look with all lines until a time, or until look returns false. What it gives to look is
// valid until that returns.
func each(open func() (io.ReadCloser, error), until time.Time, look func(*line)) error {
	f, err := open()
	if err != nil {
		return err
	}
	defer f.Close()
	all := strace.NewLines(maxText)
	pending := map[int]line{}
	for b, err := range all.All(f) {
		if err != nil {
			return fmt.Errorf("read a trace: %w", err)
		}
		tid, stamp, text := strace.ParseLine(b[:min(len(b), maxText)])
		if text == nil {
			continue
		}
		l := line{number: all.Number(), tid: tid, at: stamp.Time(), name: string(text.Name())}
		if l.at.After(until) {
			return nil
		}
		switch text.Kind() {
		case strace.KindCall:
			l.text = text[min(len(text), len(l.name)+1):]
			begin, unfinished := strace.CutUnfinished(l.text)
			if !unfinished {
				look(&l)
				continue
			}
			if len(pending) < maxPending {
				l.text = slices.Clone(begin)
				pending[tid] = l
			}
		case strace.KindResumed:
			p, ok := pending[tid]
			if !ok {
				continue
			}
			delete(pending, tid)
			if end, ok := text.CutResumed(p.name); ok {
				if !slices.Contains(p.text, '"') { // what it is about is shown here
					p.number = l.number
				}
				p.text = append(p.text, end...)
				look(&p)
			}
		case strace.KindEnd:
			l.name, l.text = "", text
			look(&l)
		}
	}
	return nil
}
