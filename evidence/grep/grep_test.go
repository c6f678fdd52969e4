package grep

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"culprit/evidence/tracefile"
)

// scanAll returns the lines that are found, as "number:line".
func scanAll(t testing.TB, p *Pattern, r io.Reader) (found []string) {
	t.Helper()
	err := NewScanner(p).Scan(r, func(n int64, line []byte) bool {
		found = append(found, fmt.Sprintf("%d:%s", n, line))
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// slowly is what scanAll should find: every line is shown to the expression.
func slowly(re *regexp.Regexp, text string) (found []string) {
	lines := strings.Split(text, "\n")
	if lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	for i, line := range lines {
		if re.MatchString(line) {
			found = append(found, fmt.Sprintf("%d:%s", i+1, line))
		}
	}
	return found
}

func TestScan(t *testing.T) {
	t.Parallel()
	const text = "# header\n1 open(\"/etc\")\n2 sendto(3, \"\\7BADZONE\\4test\")\n\n2 a.c K\n3 last"
	for _, tt := range []struct {
		patterns []string
		o        Options
		want     []int64
	}{
		{[]string{"BADZONE"}, Options{}, []int64{3}},
		{[]string{"badzone"}, Options{}, nil},
		{[]string{"badzone"}, Options{IgnoreCase: true}, []int64{3}},
		{[]string{"a.c"}, Options{}, []int64{5}},
		{[]string{"[ef].d.o\\("}, Options{}, []int64{3}},
		{[]string{"n.t.\\("}, Options{}, []int64{3}},
		{[]string{"sendto|open"}, Options{}, []int64{2, 3}},
		{[]string{"OPEN", "last"}, Options{}, []int64{6}},
		{[]string{"OPEN", "last"}, Options{IgnoreCase: true}, []int64{2, 6}},
		{[]string{"^2"}, Options{}, []int64{3, 5}},
		{[]string{"(\"\\"}, Options{Fixed: true}, nil},
		{[]string{"\\7BAD"}, Options{Fixed: true}, []int64{3}},
		{[]string{"\\7BAD", "("}, Options{Fixed: true}, []int64{2, 3}},
		{[]string{"^$"}, Options{}, []int64{4}},
		{[]string{""}, Options{}, []int64{2, 3, 4, 5, 6}},
		{[]string{""}, Options{Comments: true}, []int64{1, 2, 3, 4, 5, 6}},
		{[]string{"\n2"}, Options{}, nil},
		{[]string{"(?s)e.*\n"}, Options{}, nil},
		{[]string{"last$"}, Options{}, []int64{6}},
		{[]string{"k"}, Options{IgnoreCase: true}, []int64{5}},
	} {
		p, err := Compile(tt.patterns, tt.o)
		if err != nil {
			t.Fatal(err)
		}
		var got []int64
		for _, f := range scanAll(t, p, strings.NewReader(text)) {
			number, _, _ := strings.Cut(f, ":")
			n, _ := strconv.ParseInt(number, 10, 64)
			got = append(got, n)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%q %+v: lines %v, want %v", tt.patterns, tt.o, got, tt.want)
		}
	}
	if _, err := Compile([]string{"ok", "sendto("}, Options{}); err == nil || !strings.Contains(err.Error(), `"sendto("`) || !strings.Contains(err.Error(), "-F") {
		t.Errorf("a wrong pattern: %v", err)
	}
}

// What came before an error was searched, but for the line in which it came.
func TestScanFails(t *testing.T) {
	t.Parallel()
	p, err := Compile([]string{"needle"}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	var got []int64
	err = NewScanner(p).Scan(io.MultiReader(strings.NewReader("needle\n\na needle\nneedle"), iotest.ErrReader(broken)), func(n int64, _ []byte) bool {
		got = append(got, n)
		return true
	})
	if !errors.Is(err, broken) || !slices.Equal(got, []int64{1, 3}) {
		t.Errorf("%v, lines %v", err, got)
	}
}

// Lines are found wherever the ends of the buffer are, and however long they are.
func TestScanBlocks(t *testing.T) {
	t.Parallel()
	p, err := Compile([]string{"needle"}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	var want []string
	random := rand.New(rand.NewPCG(1, 2))
	for n := 1; b.Len() < 8*bufferSize; n++ {
		line := strings.Repeat("x", random.IntN(bufferSize/8))
		if n%17 == 0 {
			line = strings.Repeat("y", 2*bufferSize)
		}
		if n%3 == 0 {
			line += "needle"
			want = append(want, fmt.Sprintf("%d:%s", n, line))
		}
		b.WriteString(line + "\n")
	}
	for name, r := range map[string]io.Reader{
		"whole":  strings.NewReader(b.String()),
		"halves": iotest.HalfReader(strings.NewReader(b.String())),
		"errors": iotest.DataErrReader(strings.NewReader(b.String())),
	} {
		if got := scanAll(t, p, r); !slices.Equal(got, want) {
			t.Errorf("%s: %d lines, want %d", name, len(got), len(want))
		}
	}
	// One without an end neither takes all memory nor ends the search.
	endless := io.MultiReader(io.LimitReader(zeros{}, 2*longestLine), strings.NewReader("needle\nneedle\n"))
	s := NewScanner(p)
	var count int
	if err := s.Scan(endless, func(int64, []byte) bool { count++; return true }); err != nil || count != 2 || len(s.buf) > longestLine {
		t.Errorf("%d lines, buffer of %d, %v", count, len(s.buf), err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// What is skipped would not have matched.
func FuzzScan(f *testing.F) {
	for _, e := range []string{"a", "ab|cd", "(?i)kelvin", "(a+b|c?d)x", "foo|far|bar", "é.\\x{fffd}", "(?i:ſ)b", "x{2,5}y", "a\nb"} {
		f.Add(e, "some ab\nlines KELVIN\nfoofar\nséx\xff\nxxxxy", false)
		f.Add(e, "\n\nd\nSb K", true)
	}
	f.Add("abc", "ABCDEFGH\nABC", true)
	f.Add("(a", "a", false)                // no expression
	f.Add(`a\Q(`, "a(", true)              // one whose quotation would swallow what is put around it
	f.Add("a|b||c", "ABCDEFGH abcd", true) // an alternative that matches everything
	f.Fuzz(func(t *testing.T, expression, text string, ignoreCase bool) {
		p, err := Compile([]string{expression}, Options{IgnoreCase: ignoreCase})
		if err != nil {
			return
		}
		want := slowly(p.re, text)
		got := scanAll(t, p, strings.NewReader(text))
		if !slices.Equal(got, want) {
			t.Errorf("%q in %q: got %q, want %q (texts %q, fold %t, exact %t)", expression, text, got, want, p.texts, p.fold, p.exact)
		}
	})
}

func TestToLower(t *testing.T) {
	t.Parallel()
	var all []byte
	for c := range 256 {
		all = append(all, byte(c), byte(255-c), byte(c))
	}
	want := bytes.Clone(all)
	for i, c := range want {
		if 'A' <= c && c <= 'Z' {
			want[i] = c | 0x20
		}
	}
	toLower(all[1:])
	toLower(all[:1])
	if !bytes.Equal(all, want) {
		t.Errorf("got %q", all)
	}
}

// write makes a trace, compressed if so wanted.
func write(t testing.TB, dir string, i int, text string, compressed bool) string {
	t.Helper()
	name := filepath.Join(dir, fmt.Sprintf("%04d.strace", i))
	err := os.WriteFile(name, []byte(text), 0o600)
	if err == nil && compressed {
		err = tracefile.Compress(t.Context(), name)
	}
	if err != nil {
		t.Fatal(err)
	}
	return name
}

func TestSearch(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var names, want []string
	for i := range 40 {
		var b strings.Builder
		for n := range 50 * (i % 7) {
			fmt.Fprintf(&b, "%d line with needle %s\n\n", n, strings.Repeat("z", n*i))
			want = append(want, fmt.Sprintf("%d:%d", i, 2*n+1))
		}
		names = append(names, write(t, dir, i, b.String(), i%2 == 1))
	}
	names = append(names, filepath.Join(dir, "gone.strace"))
	p, err := Compile([]string{"needle"}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	var missing int
	err = Search(t.Context(), names, p, Lines, func(f Found) error {
		if errors.Is(f.Err, os.ErrNotExist) {
			missing++
		} else if f.Err != nil {
			t.Error(f.Err)
		}
		if f.Count != int64(len(f.Lines)) {
			t.Errorf("count %d of %d lines", f.Count, len(f.Lines))
		}
		for _, l := range f.Lines {
			got = append(got, fmt.Sprintf("%d:%d", f.Trace, l.Number))
		}
		return nil
	})
	if err != nil || missing != 1 || !slices.Equal(got, want) {
		t.Errorf("%d lines, want %d; %d missing; %v", len(got), len(want), missing, err)
	}

	var counted int64
	Search(t.Context(), names, p, Counts, func(f Found) error { counted += f.Count; return nil })
	if counted != int64(len(want)) {
		t.Errorf("counted %d, want %d", counted, len(want))
	}
	var with []string
	Search(t.Context(), names, p, Names, func(f Found) error {
		if f.Count == 1 {
			with = append(with, f.Path)
		}
		return nil
	})
	if len(with) != 34 || with[0] != names[1]+tracefile.Suffix || with[1] != names[2] {
		t.Errorf("%d traces %q", len(with), with[:min(len(with), 2)])
	}

	// It ends when nobody wants to hear more, and when it is told to.
	stop := errors.New("enough")
	if err := Search(t.Context(), names, p, Lines, func(Found) error { return stop }); err != stop {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := Search(ctx, names, p, Lines, func(Found) error { cancel(); return nil }); err != context.Canceled {
		t.Errorf("got %v", err)
	}
}

// A damaged trace is told of, with what could be read.
func TestSearchDamaged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	bad := write(t, dir, 1, strings.Repeat("a needle, and more, and more\n", 100_000), true)
	if err := os.Truncate(bad+tracefile.Suffix, 100); err != nil {
		t.Fatal(err)
	}
	good := write(t, dir, 2, "needle\n", true)
	p, _ := Compile([]string{"needle"}, Options{})
	var failed, found int
	err := Search(t.Context(), []string{bad, good}, p, Lines, func(f Found) error {
		if f.Err != nil {
			failed++
		}
		if f.Trace == 1 {
			found++
		}
		return nil
	})
	if err != nil || failed != 1 || found != 1 {
		t.Errorf("%d failed, %d found, %v", failed, found, err)
	}
}

// BenchmarkGrep compares a search with that of the shell over the same traces, each
// in turn.
func BenchmarkGrep(b *testing.B) {
	dir := b.TempDir()
	var text bytes.Buffer
	random := rand.New(rand.NewPCG(1, 2))
	for n := 0; text.Len() < 8<<20; n++ {
		pid := 800 + random.IntN(9)
		switch random.IntN(4) {
		case 0:
			fmt.Fprintf(&text, "%d 17%d.%06d openat(AT_FDCWD, \"/usr/lib/x86_64-linux-gnu/lib%d.so\", O_RDONLY|O_CLOEXEC) = %d</usr/lib>\n", pid, n, random.IntN(1e6), random.IntN(1e9), random.IntN(90))
		case 1:
			fmt.Fprintf(&text, "%d 17%d.%06d read(3</etc/hosts>, \"\\177ELF\\2\\1\\1\\3\\0%x\"..., 832) = 832\n", pid, n, random.IntN(1e6), random.Uint64())
		case 2:
			fmt.Fprintf(&text, "%d 17%d.%06d sendto(4<UDP:[127.0.0.1:%d->127.0.0.1:53]>, \"\\4\\322\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0\\1x\\7badzon%d\\4test\\0\\0\\1\\0\\1\", 32, MSG_NOSIGNAL, NULL, 0) = 32\n", pid, n, random.IntN(1e6), random.IntN(65536), random.IntN(30000))
		default:
			fmt.Fprintf(&text, "%d 17%d.%06d mmap(NULL, %d, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x%x\n", pid, n, random.IntN(1e6), random.IntN(1e6), random.Uint64())
		}
	}
	const count = 12
	var plain, compressed []string
	for i := range count {
		plain = append(plain, write(b, dir, i, text.String(), false))
		compressed = append(compressed, write(b, dir, count+i, text.String(), true))
	}
	for _, tt := range []struct {
		name, grep, pattern string
		o                   Options
	}{
		{"text", "-c -F", "badzon1234", Options{Fixed: true}},
		{"expression", "-c -E", "sendto.*badzon123[45]", Options{}},
		{"ignore-case", "-c -i", "BADzon1234", Options{IgnoreCase: true}},
		{"every-line", "-c -E", "[ab][0-9]{7}[67][.,]", Options{}},
	} {
		for _, set := range []struct {
			name, cat, suffix string
			names             []string
		}{{"plain", "cat", "", plain}, {"zstd", "zstdcat", tracefile.Suffix, compressed}} {
			b.Run(tt.name+"/"+set.name, func(b *testing.B) {
				p, err := Compile([]string{tt.pattern}, tt.o)
				if err != nil {
					b.Fatal(err)
				}
				var ours, theirs time.Duration
				for b.Loop() {
					begin := time.Now()
					var n int64
					if err := Search(b.Context(), set.names, p, Lines, func(f Found) error { n += f.Count; return f.Err }); err != nil {
						b.Fatal(err)
					}
					ours += time.Since(begin)

					begin = time.Now()
					script := fmt.Sprintf("%s -- %s | grep %s -- '%s'", set.cat, strings.Join(set.names, set.suffix+" ")+set.suffix, tt.grep, tt.pattern)
					out, err := exec.Command("sh", "-c", script).Output()
					theirs += time.Since(begin)
					if got := strings.TrimSpace(string(out)); err != nil || got != strconv.FormatInt(n, 10) {
						b.Fatalf("%s: grep counts %q lines (%v), we %d", script, got, err, n)
					}
				}
				b.ReportMetric(theirs.Seconds()/ours.Seconds(), "times-as-fast")
				b.ReportMetric(float64(b.N)*count*float64(text.Len())/ours.Seconds()/1e6, "MB/s")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}
