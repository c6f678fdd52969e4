package tracer

import (
	"bytes"
	"io"
	"time"

	"culprit/internal/strace"
)

// A trace streams from strace through a chain of writers into its file. Each
// link is one idea.

// gulpEvery is how long what strace writes may wait in its pipe until we read it.
const gulpEvery = 10 * time.Millisecond

// copyInGulps copies until the pipe ends. strace writes each call in several pieces:
// being woken for every one would cost more than all else that we do with them. The
// writer never fails.
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

// limiter passes on what fits into its bound, in whole lines, and counts the rest.
type limiter struct {
	w       io.Writer
	left    int64
	lost    int64
	err     error  // the first error of w; from then on everything is lost
	reached func() // called once, when the bound is reached or w fails
}

// Write never fails: strace must not be held up, so what cannot be kept is lost
// and counted.
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

// full reports whether nothing more is kept. A line that did not fit closes the
// trace even if a shorter one would: a trace has no holes.
func (l *limiter) full() bool { return l.err != nil || l.lost > 0 }

// lineWatcher calls a function with the lines that pass, without their ends. Of
// lines that come in pieces it knows the first keepLine bytes.
type lineWatcher struct {
	w     io.Writer
	lines *strace.Lines
	line  func([]byte)
}

const keepLine = 4096

func watchLines(w io.Writer, line func([]byte)) *lineWatcher {
	return &lineWatcher{w, strace.NewLines(keepLine), line}
}

func (l *lineWatcher) Write(p []byte) (int, error) {
	for rest := p; ; {
		line, more, ok := l.lines.Next(rest)
		if !ok {
			return l.w.Write(p)
		}
		l.line(line)
		rest = more
	}
}

// counter counts bytes and whether they ended in a line end.
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
