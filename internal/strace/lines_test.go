package strace

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// inPieces splits a text that comes in pieces of the given size.
func inPieces(l *Lines, text string, piece int, line func([]byte)) {
	for len(text) > 0 {
		n := min(piece, len(text))
		for rest := []byte(text[:n]); ; {
			got, more, ok := l.Next(rest)
			if !ok {
				break
			}
			line(got)
			rest = more
		}
		text = text[n:]
	}
	if last, ok := l.Last(); ok {
		line(last)
	}
}

// A stream has the same lines in whatever pieces it comes, except that a long line may be cut.
func TestLines(t *testing.T) {
	t.Parallel()
	const keep = 5
	const text = "a\n\nlonger\n\n12345\n123456\nend"
	want := strings.Split(text, "\n")
	for piece := 1; piece <= len(text); piece++ {
		l := NewLines(keep)
		count := 0
		offset := 0
		inPieces(l, text, piece, func(line []byte) {
			whole := want[count]
			count++
			short := whole[:min(len(whole), keep)]
			if string(line) != short && string(line) != whole {
				t.Errorf("pieces of %d: line %d is %q, want %q", piece, count, line, whole)
			}
			if l.Number() != int64(count) || l.Offset() != int64(offset) || l.Length() != int64(len(whole)) {
				t.Errorf("pieces of %d: line %d is number %d at %d, of %d bytes; want %d at %d, of %d",
					piece, count, l.Number(), l.Offset(), l.Length(), count, offset, len(whole))
			}
			offset += len(whole) + 1
		})
		if count != len(want) {
			t.Errorf("pieces of %d: %d lines, want %d", piece, count, len(want))
		}
	}
}

// The end of a line that comes in pieces is known, however long it is.
func TestLinesEnd(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("0123456789", 30)
	for piece := 1; piece <= len(text); piece++ {
		l := NewLines(5)
		for _, length := range []int{300, 1, 63, 64, 65, 299, 0} {
			inPieces(l, text[:length]+"\n", piece, func(line []byte) {
				want := text[max(0, length-endSize):length]
				if length < piece { // it came whole
					want = ""
				}
				if string(l.End()) != want {
					t.Errorf("pieces of %d: %q of %d bytes ends in %q, want %q", piece, line, length, l.End(), want)
				}
			})
		}
	}
}

func TestLinesWithoutAnEnd(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{"": 0, "a": 1, "a\n": 1, "a\nb": 2, "\n": 1, "\n\n": 2} {
		count := 0
		inPieces(NewLines(10), text, 1, func([]byte) { count++ })
		if count != want {
			t.Errorf("%q has %d lines, want %d", text, count, want)
		}
	}
}

// A long line takes no more memory than what is kept of it, and none once it is skipped.
func TestLinesBounds(t *testing.T) {
	t.Parallel()
	const keep = 512 << 10
	l := NewLines(keep)
	piece := bytes.Repeat([]byte("x"), 1<<20)
	for range 16 {
		if _, _, ok := l.Next(piece); ok {
			t.Fatal("a line came without its end")
		}
		if len(l.Begun()) != keep || cap(l.Begun()) > 2*keep {
			t.Fatalf("of a long line %d bytes are kept, in %d", len(l.Begun()), cap(l.Begun()))
		}
	}
	l.Skip()
	l.Next(piece)
	if len(l.Begun()) > 0 {
		t.Errorf("of a line that is skipped %d bytes are kept", len(l.Begun()))
	}
	line, rest, ok := l.Next([]byte("x\nnext\n"))
	if !ok || line != nil || string(rest) != "next\n" || l.Length() != 17<<20+1 || cap(l.part) > longPart {
		t.Errorf("the skipped line is %q of %d, before %q; %d bytes stay", line, l.Length(), rest, cap(l.part))
	}
	if line, _, ok = l.Next(rest); !ok || string(line) != "next" || l.Number() != 2 {
		t.Errorf("then comes %q as number %d", line, l.Number())
	}
}

func TestAll(t *testing.T) {
	t.Parallel()
	read := func(l *Lines, text string) (lines []string, err error) {
		r := iotest.OneByteReader(strings.NewReader(text))
		for line, err := range l.All(r) {
			if err != nil {
				return lines, err
			}
			lines = append(lines, string(line))
		}
		return lines, nil
	}
	if got, err := read(NewLines(3), "a\nlonger\n\nend"); err != nil || !slices.Equal(got, []string{"a", "lon", "", "end"}) {
		t.Errorf("%q, %v", got, err)
	}
	for line := range NewLines(3).All(strings.NewReader("a\nb\n")) {
		if string(line) != "a" {
			t.Errorf("%q", line)
		}
		break
	}
	broken := errors.New("broken")
	var got []string
	var err error
	for line, e := range NewLines(3).All(iotest.DataErrReader(&failing{"a\nb", broken})) {
		if err = e; err == nil {
			got = append(got, string(line))
		}
	}
	if err != broken || !slices.Equal(got, []string{"a"}) {
		t.Errorf("%q, %v", got, err)
	}
}

// failing is a reader that fails after its text.
type failing struct {
	text string
	err  error
}

func (f *failing) Read(p []byte) (int, error) {
	if f.text == "" {
		return 0, f.err
	}
	n := copy(p, f.text)
	f.text = f.text[n:]
	return n, nil
}
