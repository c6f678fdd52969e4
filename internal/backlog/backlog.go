// Package backlog lets programs write lines to readers that may not read: a pipe, a terminal
// that was stopped with Ctrl-S, a journald that waits for its disk.
package backlog

import (
	"io"
	"sync"
	"time"

	"culprit/internal/bell"
)

// Size is how many bytes may wait to be written.
const Size = 1 << 20

// A Writer takes lines and writes them on a goroutine of its own. Whoever writes never waits:
// a line that has no room is dropped and counted. Make one with [New].
type Writer struct {
	w       io.Writer
	told    func(dropped int)
	wake    bell.Bell
	written chan struct{} // closed when everything is written

	mu      sync.Mutex
	lines   []byte
	dropped int
	closed  bool
	err     error
}

// New returns a Writer that writes to w. When w takes lines again after some were dropped, the
// Writer calls told with their number, on its own goroutine; told may write a line to it.
func New(w io.Writer, told func(dropped int)) *Writer {
	b := &Writer{w: w, told: told, wake: bell.New(), written: make(chan struct{})}
	go b.run()
	return b
}

// Write takes one line, or several, as a whole or not at all. Its error is that of an earlier
// line.
func (b *Writer) Write(line []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed, len(b.lines)+len(line) > Size:
		b.dropped++
	default:
		b.lines = append(b.lines, line...)
		b.wake.Ring()
	}
	return len(line), b.err
}

// Close writes what waits, for as long as patience at most, and returns how many lines were
// dropped that nobody was told of. Nobody may write any more.
func (b *Writer) Close(patience time.Duration) (dropped int) {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.wake.Ring()
	select {
	case <-b.written:
	case <-time.After(patience): // the write in progress cannot be ended
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.dropped
}

func (b *Writer) run() {
	defer close(b.written)
	for range b.wake {
		lines, closed := b.take()
		if len(lines) > 0 {
			_, err := b.w.Write(lines)
			b.after(err)
		}
		if closed {
			return
		}
	}
}

// take takes the lines that wait.
func (b *Writer) take() (lines []byte, closed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	lines, b.lines = b.lines, nil
	return lines, b.closed
}

// after notes how writing went, and tells of lines that were dropped, once there is room again.
func (b *Writer) after(err error) {
	b.mu.Lock()
	b.err = err
	dropped := b.dropped
	if len(b.lines) > Size/2 || b.closed {
		dropped = 0 // not yet
	}
	b.dropped -= dropped
	b.mu.Unlock()
	if dropped > 0 {
		b.told(dropped)
	}
}
