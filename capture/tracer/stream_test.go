package tracer

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
)

// Whatever pieces a stream comes in, whole lines are kept up to the bound, and
// every other byte is counted.
func TestLimiter(t *testing.T) {
	t.Parallel()
	const in = "one\ntwo\nthree\nfour\n"
	for piece := 1; piece <= len(in); piece++ {
		for bound := range len(in) + 2 {
			var out bytes.Buffer
			reached := 0
			l := &limiter{w: &out, left: int64(bound), reached: func() { reached++ }}
			for rest := in; rest != ""; {
				n := min(piece, len(rest))
				if w, err := l.Write([]byte(rest[:n])); w != n || err != nil {
					t.Fatalf("wrote %d of %d: %v", w, n, err)
				}
				rest = rest[n:]
			}
			if out.Len() > bound || out.Len()+int(l.lost) != len(in) || !strings.HasPrefix(in, out.String()) {
				t.Errorf("pieces of %d, bound %d: kept %q, lost %d", piece, bound, out.String(), l.lost)
			}
			if want := map[bool]int{true: 1}[l.lost > 0]; reached != want {
				t.Errorf("pieces of %d, bound %d: told %d times that the bound was reached", piece, bound, reached)
			}
		}
	}
}

type failing struct{}

func (failing) Write(p []byte) (int, error) { return 2, errors.New("disk full") }

func TestLimiterOutlivesTheDisk(t *testing.T) {
	t.Parallel()
	reached := 0
	l := &limiter{w: failing{}, left: 100, reached: func() { reached++ }}
	for range 3 {
		if n, err := l.Write([]byte("abcd\n")); n != 5 || err != nil {
			t.Fatalf("wrote %d: %v", n, err)
		}
	}
	if l.lost != 13 || l.err == nil || reached != 1 {
		t.Errorf("lost %d, error %v, told %d times", l.lost, l.err, reached)
	}
}

func TestLineWatcher(t *testing.T) {
	t.Parallel()
	in := "a\n\n" + strings.Repeat("b", 2*keepLine) + ") = 0\nend"
	for piece := 1; piece <= len(in); piece++ {
		var out bytes.Buffer
		var lines, ends []string
		w := watchLines(&out, func(b, end []byte) {
			lines = append(lines, string(b[:min(len(b), keepLine)]))
			ends = append(ends, string(end[max(0, len(end)-5):]))
		})
		for rest := in; rest != ""; {
			n := min(piece, len(rest))
			w.Write([]byte(rest[:n]))
			rest = rest[n:]
		}
		if out.String() != in {
			t.Fatalf("pieces of %d: passed on %q", piece, out.String())
		}
		if len(lines) != 3 || lines[0] != "a" || lines[1] != "" || lines[2] != strings.Repeat("b", keepLine) {
			t.Errorf("pieces of %d: lines %q", piece, lines)
		}
		if want := []string{"a", "", ") = 0"}; !slices.Equal(ends, want) {
			t.Errorf("pieces of %d: the lines end in %q, want %q", piece, ends, want)
		}
	}
}
