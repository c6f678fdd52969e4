package tracefile

import (
	"bytes"
	"path"
	"slices"
	"strings"

	"culprit/internal/strace"
)

// Bounds of an index. However long a trace is, its index has less than a MiB.
const (
	blockSize  = 1 << 20 // bytes of text between two points; the text of a frame of a compressed trace
	maxPoints  = 16 << 10
	maxThreads = 1 << 10
	maxName    = 32  // bytes of the name of a program
	keptLine   = 512 // bytes of a line that comes in pieces: enough for the path of a program
)

// An Index says where the lines of a trace are, so that it can be read from any of them. Nothing in it is
// per line: between two points of it lies a MiB of text, or more if the trace is longer than 16 GiB. The
// zero Index is ready for [Trace.Extend].
type Index struct {
	// Points are in order. The first is the begin of the trace.
	Points []Point `json:"points"`
	// End is where the text ends that the index knows.
	End Point `json:"end"`
	// Partial says that the last line lacks its end: End is in it.
	Partial bool `json:"partial,omitempty"`
	// Threads are in the order of their first lines, at most 1024 of them.
	Threads []Thread `json:"threads,omitempty"`
	// Unlisted is how many lines are of threads that had no room in Threads.
	Unlisted int64 `json:"unlisted,omitempty"`

	step   int64          // bytes of text between two points
	known  map[int]int    // where in Threads a TID is
	last   int            // the thread of the last line, in Threads
	starts map[int]string // programs of execve lines that are unfinished, by TID
	lines  *strace.Lines
}

// A Point is a place in a trace.
type Point struct {
	File int64 `json:"file"` // offset in the file; if that is compressed, of a frame
	Text int64 `json:"text"` // offset in the uncompressed text
	Line int64 `json:"line"` // the number of the line that begins there or goes on there, from 1
}

// A Thread is what the lines of one thread show.
type Thread struct {
	TID   int    `json:"tid"`
	First int64  `json:"first"` // the number of its first line
	Lines int64  `json:"lines"`
	Name  string `json:"name,omitempty"` // of the last program that it executed: foreign text
}

// Lines is how many lines the text has.
func (x *Index) Lines() int64 {
	if x.Partial {
		return x.End.Line
	}
	return max(0, x.End.Line-1)
}

// Before returns the last point from which all of a line can be read.
func (x *Index) Before(line int64) Point {
	best := Point{Line: 1}
	for _, p := range x.Points { // a line may go on at a point with its number
		if p.Line >= line {
			break
		}
		best = p
	}
	return best
}

func (x *Index) begin() {
	if x.lines == nil {
		x.lines, x.known, x.starts = strace.NewLines(keptLine), map[int]int{}, map[int]string{}
		x.step, x.End.Line = blockSize, 1
	}
}

// mark says that the text that comes next begins at that offset in the file.
func (x *Index) mark(file int64) {
	x.begin()
	x.End.File = file
	if n := len(x.Points); n > 0 && x.End.Text-x.Points[n-1].Text < x.step {
		return
	}
	if len(x.Points) == maxPoints {
		for i := range maxPoints / 2 {
			x.Points[i] = x.Points[2*i]
		}
		x.Points = x.Points[:maxPoints/2]
		x.step *= 2
		x.mark(file)
		return
	}
	x.Points = append(x.Points, x.End)
}

// Write reads the next piece of the text. It never fails.
func (x *Index) Write(p []byte) (int, error) {
	x.begin()
	for rest := p; ; {
		line, more, ok := x.lines.Next(rest)
		if !ok {
			break
		}
		x.line(line)
		rest = more
	}
	if len(p) > 0 {
		x.End.Text += int64(len(p))
		x.End.Line = x.lines.Number() // of the line that has begun or comes next
		x.Partial = p[len(p)-1] != '\n'
	}
	return len(p), nil
}

// line counts a line of a thread, and reads the name of the program that it executes.
func (x *Index) line(line []byte) {
	tid, _, text := strace.ParseLine(line)
	if text == nil {
		return
	}
	if x.last >= len(x.Threads) || x.Threads[x.last].TID != tid {
		at, ok := x.known[tid]
		if !ok {
			if len(x.Threads) == maxThreads {
				x.Unlisted++
				return
			}
			at = len(x.Threads)
			x.known[tid] = at
			x.Threads = append(x.Threads, Thread{TID: tid, First: x.lines.Number()})
		}
		x.last = at
	}
	t := &x.Threads[x.last]
	t.Lines++
	switch {
	case bytes.HasPrefix(text, []byte("execve(")):
		executable, _, ok := strace.CutQuoted(text[len("execve("):])
		if !ok {
			return
		}
		if x.succeeded(line) {
			t.Name = nameOf(executable)
		} else if _, ok := strace.CutUnfinished(x.end(line)); ok {
			x.starts[tid] = nameOf(executable)
		}
	case bytes.HasPrefix(text, []byte("<... execve resumed>")):
		if name, ok := x.starts[tid]; ok && x.succeeded(line) {
			t.Name = name
		}
		delete(x.starts, tid)
	}
}

// end returns the end of a line, which may be cut.
func (x *Index) end(line []byte) []byte {
	const enough = 64
	if x.lines.Length() > int64(len(line)) {
		return x.lines.End()
	}
	return line[max(0, len(line)-enough):]
}

func (x *Index) succeeded(line []byte) bool { return strace.ExecveSucceeded(x.end(line)) }

// nameOf returns the name of an executable, which is still escaped.
func nameOf(executable []byte) string {
	name := path.Base(string(strace.Unquote(nil, executable)))
	return strings.ToValidUTF8(name[:min(len(name), maxName)], "\ufffd")
}

// Clone returns a copy, to be extended while the index is in use. The index itself must not be extended any more.
func (x *Index) Clone() *Index {
	c := *x
	c.Points, c.Threads = slices.Clone(x.Points), slices.Clone(x.Threads)
	return &c
}
