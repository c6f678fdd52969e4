package backlog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// stuck is a reader that does not read until it is let go.
type stuck struct {
	free chan struct{}
	mu   sync.Mutex
	got  bytes.Buffer
}

func (s *stuck) Write(p []byte) (int, error) {
	<-s.free
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got.Write(p)
}

// Nobody waits for a reader that does not read. What has room arrives in order when it reads
// again, and then how much was dropped.
func TestStuckReader(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &stuck{free: make(chan struct{})}
		var b *Writer
		b = New(s, func(n int) { fmt.Fprintf(b, "dropped %d\n", n) })
		line := strings.Repeat("x", 1023) + "\n"
		io.WriteString(b, "first\n")
		synctest.Wait() // it is being written, and stuck
		for range 2 * Size / len(line) {
			if n, err := io.WriteString(b, line); n != len(line) || err != nil {
				t.Fatalf("%d, %v", n, err)
			}
		}
		close(s.free)
		synctest.Wait()
		io.WriteString(b, "last\n")
		if n := b.Close(time.Hour); n != 0 {
			t.Errorf("%d lines were dropped and not told of", n)
		}
		want := "first\n" + strings.Repeat(line, Size/len(line)) + fmt.Sprintf("dropped %d\n", Size/len(line)) + "last\n"
		if got := s.got.String(); got != want {
			t.Errorf("%d bytes arrived, which end in %q, want %d", len(got), got[max(0, len(got)-40):], len(want))
		}
	})
}

// Close does not wait for ever, and says what was dropped.
func TestCloseStuck(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &stuck{free: make(chan struct{})}
		b := New(s, func(int) {})
		io.WriteString(b, "first\n")
		synctest.Wait()
		for range 3 {
			b.Write(make([]byte, Size))
		}
		began := time.Now()
		if n := b.Close(time.Second); n != 2 || time.Since(began) != time.Second {
			t.Errorf("%d dropped, after %v", n, time.Since(began))
		}
		close(s.free)
	})
}

// An error of the reader is that of later lines, which are tried all the same.
func TestError(t *testing.T) {
	t.Parallel()
	r, w := io.Pipe()
	r.Close()
	b := New(w, func(int) {})
	for {
		if _, err := io.WriteString(b, "x\n"); errors.Is(err, io.ErrClosedPipe) {
			break
		}
	}
	b.Close(time.Second)
}
