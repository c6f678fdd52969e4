package tracer

import (
	"bytes"
	"io"
	"time"

	"culprit/internal/strace"
)

// What strace prints goes through a chain of writers into the file of its trace.

// gulpEvery is how long what strace writes may wait in its pipe until we read it.
const gulpEvery = 10 * time.Millisecond

// copyInGulps copies until the pipe ends. strace writes each call in several pieces: to
// wake up for each of them would cost more than all that we do with it. The writer never
// fails.
func copyInGulps(w io.Writer, pipe io.Reader, buf []byte) {
	for {
		n, err := pipe.Read(buf)
		w.Write(buf[:n])
		if err != nil {
			return
		}
		if n < len(buf) {
			time.Sleep(gulpEvery)
		}
	}
}

// limiter passes on the whole lines that fit into its bound, and counts the bytes of the
// rest.
type limiter struct {
	w       io.Writer
	left    int64
	lost    int64
	err     error  // the first error of w; from then on everything is lost
	reached func() // called once, when the bound is reached or w fails
}

// Write never fails: strace must not be held up, so what cannot be kept is dropped and
// counted.
func (l *limiter) Write(p []byte) (int, error) {
	keep := p
	if l.full() {
		keep = nil
	} else if int64(len(p)) > l.left {
		keep = p[:bytes.LastIndexByte(p[:l.left], '\n')+1]
	}
	if len(keep) > 0 {
		n, err := l.w.Write(keep)
		l.left -= int64(n)
		keep = keep[:n]
		l.err = err
	}
	if lost := len(p) - len(keep); lost > 0 {
		if l.lost == 0 {
			l.reached()
		}
		l.lost += int64(lost)
	}
	return len(p), nil
}

// full reports whether nothing more is kept. After a line that did not fit, no shorter one
// is kept either: a trace has no holes.
func (l *limiter) full() bool { return l.err != nil || l.lost > 0 }

// lineWatcher calls a function with each line that passes, and with how the line ends. Of a
// line that comes in pieces it knows the first keepLine bytes, and the last few.
type lineWatcher struct {
	w     io.Writer
	lines *strace.Lines
	line  func(line, end []byte)
}

const keepLine = 4096

func watchLines(w io.Writer, line func(line, end []byte)) *lineWatcher {
	return &lineWatcher{w, strace.NewLines(keepLine), line}
}

func (l *lineWatcher) Write(p []byte) (int, error) {
	for rest := p; ; {
		line, more, ok := l.lines.Next(rest)
		if !ok {
			return l.w.Write(p)
		}
		end := line
		if l.lines.Length() > int64(len(line)) {
			end = l.lines.End()
		}
		l.line(line, end)
		rest = more
	}
}

// counter counts the bytes, and knows the last one.
type counter struct {
	w    io.Writer
	n    int64
	last byte
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	if n > 0 {
		c.last = p[n-1]
	}
	return n, err
}
