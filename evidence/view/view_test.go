package view

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"culprit/evidence/grep"
	"culprit/evidence/tracefile"
)

// sample is a trace of some MiB by three threads.
func sample() string {
	var b strings.Builder
	b.WriteString("# culprit trace: ID\n")
	for i := 2; i < 20_000; i++ {
		switch {
		case i == 777:
			fmt.Fprintf(&b, "812 1.0 write(1, \"%s\", 1) = %d\n", strings.Repeat("y", 1<<20), i)
		case i%3001 == 0:
			fmt.Fprintf(&b, "814 1.0 sendto(3, \"needle %d\", 1) = 1\n", i)
		default:
			fmt.Fprintf(&b, "%d 1.0 read(3, \"812 %s\", %d) = 1\n", 812+i%2, strings.Repeat("x", i%50), i)
		}
	}
	b.WriteString("812 1.0 read(0, ")
	return b.String()
}

// traces writes a text as traces that are kept in different ways.
func traces(t testing.TB, text string) map[string]string {
	t.Helper()
	names := map[string]string{}
	for _, how := range []string{"plain", "compressed", "by hand"} {
		name := filepath.Join(t.TempDir(), "a.strace")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		switch how {
		case "compressed":
			if err := tracefile.Compress(t.Context(), name); err != nil {
				t.Fatal(err)
			}
		case "by hand":
			if out, err := exec.Command("zstd", "-q", "--rm", name).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		}
		names[how] = name
	}
	return names
}

func open(t testing.TB, x *Indexes, name string) *Trace {
	t.Helper()
	tr, err := x.Open(t.Context(), t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tr.Close() })
	return tr
}

func pattern(t testing.TB, text string) *grep.Pattern {
	t.Helper()
	p, err := grep.Compile([]string{text}, grep.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// want is what a query finds in a text.
func want(lines []string, q Query, matches string) (numbers []int64) {
	for i, line := range lines {
		n := int64(i + 1)
		if q.TID != 0 && !strings.HasPrefix(line, fmt.Sprint(q.TID, " ")) || !strings.Contains(line, matches) || q.Back != (n < q.From) ||
			matches != "" && strings.HasPrefix(line, "#") {
			continue
		}
		numbers = append(numbers, n)
	}
	if q.Back {
		return numbers[max(0, len(numbers)-q.Most):]
	}
	return numbers[:min(q.Most, len(numbers))]
}

func TestQueries(t *testing.T) {
	t.Parallel()
	text := sample()
	for how, name := range traces(t, text) {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			tr := open(t, NewIndexes(1), name)
			if n := tr.Index.Lines(); n != 20_000 || !tr.All {
				t.Fatalf("%d lines, all %v", n, tr.All)
			}
			lines := strings.Split(text, "\n")
			for _, from := range []int64{-1, 8778, 1 << 40} {
				for _, back := range []bool{false, true} {
					for _, c := range []struct {
						tid     int
						pattern string
					}{{}, {tid: 812}, {tid: 814}, {tid: 9}, {pattern: "needle"}, {pattern: "812 x"}, {tid: 813, pattern: "812 x"}, {pattern: "nowhere"}} {
						q := Query{From: from, Back: back, Most: 7, TID: c.tid}
						if c.pattern != "" {
							q.Pattern = pattern(t, c.pattern)
						}
						found, err := tr.Lines(t.Context(), t.Context(), q)
						if err != nil {
							t.Fatal(err)
						}
						var got []int64
						for _, l := range found.Lines {
							got = append(got, l.Number)
							if whole := lines[l.Number-1]; l.Length != int64(len(whole)) || !strings.HasPrefix(whole, string(l.Text)) || len(l.Text) < min(len(whole), maxText) {
								t.Errorf("line %d: %d bytes, %.50q", l.Number, l.Length, l.Text)
							}
						}
						q.From = max(1, q.From)
						if want := want(lines, q, c.pattern); !slices.Equal(got, want) || found.On != 0 {
							t.Errorf("from %d, back %v, %+v: %v, want %v; on %d", from, back, c, got, want, found.On)
						}
					}
				}
			}
		})
	}
}

// Who has no patience gets on nevertheless, and misses nothing.
func TestImpatience(t *testing.T) {
	t.Parallel()
	none, cancel := context.WithCancel(t.Context())
	cancel()
	text := sample()
	for how, name := range traces(t, text) {
		tr := open(t, NewIndexes(1), name)
		for _, back := range []bool{false, true} {
			q := Query{From: 1, Back: back, Most: 100, Pattern: pattern(t, "needle")}
			if back {
				q.From = 1 << 40
			}
			var got []int64
			rounds := 0
			for {
				rounds++
				found, err := tr.Lines(t.Context(), none, q)
				if err != nil {
					t.Fatal(err)
				}
				for _, l := range found.Lines {
					got = append(got, l.Number)
				}
				if found.On == 0 || rounds > 1000 {
					break
				}
				q.From = found.On
			}
			slices.Sort(got)
			if want := want(strings.Split(text, "\n"), Query{Most: 100}, "needle"); !slices.Equal(got, want) || rounds < 2 && (!back || how != "by hand") || rounds > 100 {
				t.Errorf("%s, back %v: %v in %d rounds, want %v", how, back, got, rounds, want)
			}
		}
		if _, err := tr.Lines(none, t.Context(), Query{From: 1, Most: 1}); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", how, err)
		}
	}
}

func TestPiece(t *testing.T) {
	t.Parallel()
	text := sample()
	lines := strings.Split(text, "\n")
	for how, name := range traces(t, text) {
		tr := open(t, NewIndexes(1), name)
		for _, n := range []int64{1, 777, 20_000, 20_001} {
			for _, from := range []int64{0, 1000, 1<<20 + 28} {
				got, length, err := tr.Piece(t.Context(), n, from, 10)
				whole := ""
				if n <= 20_000 {
					whole = lines[n-1]
				}
				want := whole[min(int64(len(whole)), from):min(int64(len(whole)), from+10)]
				if err != nil || string(got) != want || length != int64(len(whole)) {
					t.Errorf("%s, line %d from %d: %q of %d, %v; want %q of %d", how, n, from, got, length, err, want, len(whole))
				}
			}
		}
	}
}

// A trace that grows is read on, and read anew when it was compressed; the indexes of only some are kept.
func TestOpen(t *testing.T) {
	t.Parallel()
	x := NewIndexes(2)
	names := traces(t, sample())
	name := names["plain"]
	first := open(t, x, name)
	w, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for i := range int64(3) {
		if _, err := io.WriteString(w, "\n812 1.0 x"); err != nil {
			t.Fatal(err)
		}
		tr := open(t, x, name)
		if n := tr.Index.Lines(); n != 20_001+i {
			t.Errorf("%d lines", n)
		}
	}
	if n := first.Index.Lines(); n != 20_000 {
		t.Errorf("an open trace has %d lines now", n)
	}
	if err := tracefile.Compress(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	if tr := open(t, x, name); tr.Index.Lines() != 20_003 || !tr.Compressed() {
		t.Errorf("%d lines", tr.Index.Lines())
	}
	if one, two := open(t, x, name), open(t, x, name); one.Index != two.Index {
		t.Error("the index was made again")
	}
	open(t, x, names["compressed"])
	open(t, x, names["by hand"])
	if len(x.traces) != 2 {
		t.Errorf("%d indexes are kept", len(x.traces))
	}
	if _, err := x.Open(t.Context(), t.Context(), name+"x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// An index that takes longer than the patience is used as far as it is.
func TestOpenImpatiently(t *testing.T) {
	t.Parallel()
	none, cancel := context.WithCancel(t.Context())
	cancel()
	x := NewIndexes(2)
	name := traces(t, sample())["plain"]
	tr, err := x.Open(t.Context(), none, name)
	if err != nil || tr.All || tr.Index.Lines() != 0 {
		t.Fatalf("%v, %+v", err, tr)
	}
	tr.Close()
	if tr := open(t, x, name); !tr.All || tr.Index.Lines() != 20_000 {
		t.Errorf("%d lines", tr.Index.Lines())
	}
}
