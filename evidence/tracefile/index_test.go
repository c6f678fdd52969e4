package tracefile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// long is a text of several blocks, with lines that are longer than one, and ends in the middle of a line.
func long() string {
	var b strings.Builder
	b.WriteString("# culprit trace: ID\n")
	b.WriteString("812 1.0 execve(\"/usr/bin/php8.2\", [\"php\"], []) = 0 <0.000200>\n")
	b.WriteString("813 1.0 execve(\"/usr/bin/no\", [\"no\"], []) = -1 ENOENT (No such file or directory)\n")
	b.WriteString("813 1.0 execve(\"/bin/\\303\\244\", [\"x\"], [] <unfinished ...>\n")
	b.WriteString("813 1.0 <... execve resumed>) = 0\n")
	for i := range 40_000 {
		fmt.Fprintf(&b, "%d 1.%06d read(3</etc/passwd>, \"%s\", 4096) = %d\n", 812+i%3, i, strings.Repeat("x", i%97), i)
		if i%10_000 == 5000 {
			b.WriteString("812 1.0 write(1, \"" + strings.Repeat("y", blockSize+i) + "\", 1) = 1\n\n")
		}
	}
	b.WriteString("812 1.0 read(0, ")
	return b.String()
}

// index opens a trace and brings its index to the end of its text.
func index(t testing.TB, name string) (*Trace, *Index) {
	t.Helper()
	f, err := Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	x := f.Index()
	if err := f.Extend(t.Context(), x); err != nil {
		t.Fatal(err)
	}
	return f, x
}

var shown = cmpopts.IgnoreUnexported(Index{})

// From every point on, the text is what it is, and the numbers of lines are right; whether the trace is
// compressed or not, by us or by hand.
func TestIndex(t *testing.T) {
	t.Parallel()
	whole := long()
	for what, text := range map[string]string{
		"long": whole, "empty": "", "short": sample, "a line": "812 1.0 x", "a block": strings.Repeat("1234567\n", blockSize/8),
		"two blocks": strings.Repeat("1234567\n", blockSize/4), "one line": strings.Repeat("x", 3*blockSize),
	} {
		for _, how := range []string{"plain", "compressed", "by hand"} {
			t.Run(what+" "+how, func(t *testing.T) {
				t.Parallel()
				name := makeTrace(t, text)
				switch how {
				case "compressed":
					if err := Compress(t.Context(), name); err != nil {
						t.Fatal(err)
					}
				case "by hand":
					if out, err := exec.Command("zstd", "-q", "--rm", name).CombinedOutput(); err != nil {
						t.Fatalf("%v: %s", err, out)
					}
				}
				f, x := index(t, name)
				lines := int64(strings.Count(text, "\n"))
				want := lines
				if text != "" && !strings.HasSuffix(text, "\n") {
					want++
				}
				if x.Lines() != want || x.End.Text != int64(len(text)) || x.End.Line != lines+1 {
					t.Errorf("%d lines, end %+v; want %d, %d bytes", x.Lines(), x.End, want, len(text))
				}
				if n := (len(text) + blockSize - 1) / blockSize; how != "by hand" && (len(x.Points) < n || len(x.Points) > n+1) {
					t.Errorf("%d points for %d bytes", len(x.Points), len(text))
				}
				for _, p := range x.Points {
					if got := int64(1 + strings.Count(text[:p.Text], "\n")); p.Line != got {
						t.Errorf("%+v is in line %d", p, got)
					}
					rest := make([]byte, min(len(text)-int(p.Text), 1000))
					if err := f.From(p); err != nil {
						t.Fatal(err)
					}
					if _, err := io.ReadFull(f, rest); err != nil || string(rest) != text[p.Text:p.Text+int64(len(rest))] {
						t.Errorf("%+v: %v, %.60q", p, err, rest)
					}
				}
				for n := int64(1); n <= x.Lines(); n += 1 + n/50 {
					if p := x.Before(n); p.Line >= n && p != (Point{Line: 1}) {
						t.Errorf("line %d is read from %+v", n, p)
					}
				}
				if what != "long" {
					return
				}
				threads := []Thread{{812, 2, 13_339, "php8.2"}, {813, 3, 13_336, "\u00e4"}, {814, 8, 13_333, ""}}
				if diff := cmp.Diff(threads, x.Threads); diff != "" || x.Unlisted != 0 {
					t.Error(diff)
				}
			})
		}
	}
}

// An index goes on where it ended when the trace grows, also within a line.
func TestIndexGrows(t *testing.T) {
	t.Parallel()
	text := long()
	name := makeTrace(t, "")
	f, err := Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	x := f.Index()
	for rest := text; ; rest = rest[min(len(rest), 700_001):] {
		if err := f.Extend(t.Context(), x); err != nil {
			t.Fatal(err)
		}
		if done := len(text) - len(rest); x.End.Text != int64(done) || x.End.Line != int64(1+strings.Count(text[:done], "\n")) {
			t.Fatalf("after %d bytes: %+v", done, x.End)
		}
		if rest == "" {
			break
		}
		if _, err := io.WriteString(w, rest[:min(len(rest), 700_001)]); err != nil {
			t.Fatal(err)
		}
	}
	_, want := index(t, makeTrace(t, text))
	if diff := cmp.Diff(want.Threads, x.Threads); diff != "" {
		t.Error(diff)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.Extend(gone, new(Index)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// Every reader of zstd reads the whole text, and passes over the index.
func TestIndexIsSkipped(t *testing.T) {
	t.Parallel()
	text := long()
	name := makeTrace(t, text)
	if err := Compress(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("zstd", "-dcq", name+Suffix).Output()
	if err != nil || string(out) != text {
		t.Errorf("zstd -d: %v, %d bytes", err, len(out))
	}
	if got, _ := read(t, name); got != text {
		t.Errorf("read %d bytes", len(got))
	}
}

// An index that is damaged or lies is not used, and the trace is read without it.
func TestIndexDamaged(t *testing.T) {
	t.Parallel()
	text := long()
	name := makeTrace(t, text)
	if err := Compress(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(name + Suffix)
	if err != nil {
		t.Fatal(err)
	}
	_, want := index(t, name)
	begin := bytes.LastIndex(whole, []byte(`{"points"`)) - headerSize
	lie := func(change func(*Index)) []byte {
		x := *want
		x.Points, x.Threads = slices.Clone(x.Points), slices.Clone(x.Threads)
		change(&x)
		b, err := appendStored(bytes.Clone(whole[:begin]), &x)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for what, b := range map[string][]byte{
		"none":              whole[:begin],
		"changed":           append(append(bytes.Clone(whole[:begin+20]), 'x'), whole[begin+21:]...),
		"behind the end":    lie(func(x *Index) { x.End.File = int64(begin) + 1 }),
		"backwards":         lie(func(x *Index) { x.Points[1].Text = 3 * blockSize }),
		"no begin":          lie(func(x *Index) { x.Points = x.Points[1:] }),
		"more lines":        lie(func(x *Index) { x.Points[1].Line = 2 * blockSize }),
		"negative":          lie(func(x *Index) { x.Points[0].File = -1 }),
		"no points":         lie(func(x *Index) { x.Points = nil }),
		"too many points":   lie(func(x *Index) { x.Points = make([]Point, maxPoints+1) }),
		"a name as a novel": lie(func(x *Index) { x.Threads[0].Name = strings.Repeat("x", 1000) }),
	} {
		if err := os.WriteFile(name+Suffix, b, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := Open(name)
		if err != nil {
			t.Fatal(err)
		}
		x := f.Index()
		if len(x.Points) != 0 {
			t.Errorf("%s: %+v", what, x.Points)
		}
		if err := f.Extend(t.Context(), x); err != nil || x.Lines() != want.Lines() {
			t.Errorf("%s: %v, %d lines", what, err, x.Lines())
		}
		f.Close()
	}
}

// However long a trace is, its index stays small.
func TestIndexIsBounded(t *testing.T) {
	t.Parallel()
	var x Index
	line := strings.Repeat("x", 1022) + "\n"
	for i := range 3 * maxPoints {
		x.mark(x.End.Text)
		fmt.Fprintf(&x, "%d 1.0 a%s", i, line)
		x.End.Text += 2 * blockSize // as if there were more
	}
	if len(x.Points) > maxPoints || len(x.Points) < maxPoints/2 || len(x.Threads) != maxThreads || x.Unlisted != 3*maxPoints-maxThreads {
		t.Errorf("%d points, %d threads, %d lines of others", len(x.Points), len(x.Threads), x.Unlisted)
	}
	if !x.possible(x.End.File) {
		t.Error("its own index is not possible")
	}
	b, err := appendStored(nil, &x)
	if err != nil || len(b) > maxStored {
		t.Errorf("%v, %d bytes", err, len(b))
	}
	path := filepath.Join(t.TempDir(), "index")
	if err := os.WriteFile(path, append(make([]byte, 100), b...), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := readStored(f); !errors.Is(err, errNoIndex) { // its frames would have more than 100 bytes
		t.Errorf("got %v", err)
	}
}

func FuzzStoredIndex(f *testing.F) {
	f.Add([]byte(`{"points":[{"file":0,"text":0,"line":1},{"file":70000,"text":1048576,"line":900}],"end":{"file":80000,"text":1100000,"line":1000}}`), int64(80000))
	f.Add([]byte(`{"points":[{"line":1}],"end":{"line":1},"threads":[{"tid":1,"first":1,"lines":1,"name":"x"}]}`), int64(0))
	f.Fuzz(func(t *testing.T, doc []byte, at int64) {
		x, err := parseStored(doc, at)
		if err != nil {
			return
		}
		for _, line := range []int64{0, 1, x.Lines(), x.Lines() + 1} {
			if p := x.Before(line); p.File < 0 || p.File > at {
				t.Errorf("line %d is at %+v of %d bytes", line, p, at)
			}
		}
	})
}

// Whatever the text is and in whatever pieces it comes, the index counts the same.
func FuzzIndex(f *testing.F) {
	f.Add("# x\n812 1.0 execve(\"/bin/a\", [], []) = 0\n812 1.0 a(\n", 3)
	f.Add("812 1.0 execve(\"/bin/a\" <unfinished ...>\n812 1.0 <... execve resumed>) = 0\n\n", 100)
	f.Fuzz(func(t *testing.T, text string, piece int) {
		piece = max(1, piece%1000)
		var x, whole Index
		whole.mark(0)
		io.WriteString(&whole, text)
		x.mark(0)
		for rest := text; rest != ""; rest = rest[min(len(rest), piece):] {
			io.WriteString(&x, rest[:min(len(rest), piece)])
		}
		if diff := cmp.Diff(whole, x, shown); diff != "" && len(text) < keptLine {
			t.Error(diff)
		}
		if x.End.Line != int64(1+strings.Count(text, "\n")) || !x.possible(x.End.File) {
			t.Errorf("%+v", x)
		}
	})
}
