package set

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"culprit/lists/format"
)

// build makes a set of entries, all of a list named /list.
func build(t testing.TB, entries ...format.Entry) *Set {
	t.Helper()
	b, err := NewBuilder(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := b.File("/list"); err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if err := b.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	return built(t, b)
}

func built(t testing.TB, b *Builder) *Set {
	t.Helper()
	file, err := Temporary(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := b.Build(file); err != nil {
		t.Fatal(err)
	}
	s, err := Open(file)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestFind(t *testing.T) {
	t.Parallel()
	s := build(t,
		format.Entry{Name: "whole.example", Kind: format.Whole, Line: 1, Comment: "C2, 2026-11-20"},
		format.Entry{Name: "self.example", Kind: format.Self, Line: 2},
		format.Entry{Name: "below.example", Kind: format.Below, Line: 3},
		format.Entry{Name: "www.whole.example", Kind: format.Self, Line: 4},
		format.Entry{Name: "whole.example", Kind: format.Whole, Line: 5, Comment: "once more"},
		format.Entry{Name: "whole.example", Kind: format.Self, Line: 6},
		format.Entry{Name: "good.whole.example", Kind: format.Whole, Except: true, Line: 7},
		format.Entry{Name: "itself.whole.example", Kind: format.Self, Except: true, Line: 8},
		format.Entry{Name: "beneath.whole.example", Kind: format.Below, Except: true, Line: 9},
	)
	if listed, excepted := s.Entries(); listed != 5 || excepted != 3 {
		t.Errorf("%d entries and %d exceptions: one is twice", listed, excepted)
	}
	for name, line := range map[string]int{
		"whole.example": 6, "a.whole.example": 1, "www.whole.example": 4, "x.www.whole.example": 1, "awhole.example": 0, "example": 0,
		"self.example": 2, "a.self.example": 0,
		"below.example": 0, "a.below.example": 3, "b.a.below.example": 3,
		"good.whole.example": 0, "a.good.whole.example": 0, "notgood.whole.example": 1,
		"itself.whole.example": 0, "a.itself.whole.example": 1,
		"beneath.whole.example": 1, "a.beneath.whole.example": 0,
	} {
		m, found := s.Find(wire(name))
		if found != (line > 0) {
			t.Errorf("%s: found %v, want line %d", name, found, line)
		} else if found && m.Line() != line {
			t.Errorf("%s: line %d, want %d", name, m.Line(), line)
		}
	}
	m, _ := s.Find(wire("a.whole.example"))
	if m.File() != "/list" || m.Name() != "whole.example" || m.Kind() != format.Whole || m.Comment() != "C2, 2026-11-20" {
		t.Errorf("%s:%d %s %s # %s", m.File(), m.Line(), m.Name(), m.Kind(), m.Comment())
	}
	if m, excepted := s.Excepted(wire("good.whole.example")); !excepted || m.Line() != 7 {
		t.Error("the exception was not found")
	}
}

// A dot in a label is no end of it: such a name is another one.
func TestDotInLabel(t *testing.T) {
	t.Parallel()
	s := build(t, format.Entry{Name: "evil.example", Kind: format.Whole})
	if _, found := s.Find([]byte("\x0cevil.example")); found {
		t.Error("one label was taken for two")
	}
	if _, found := s.Find([]byte("\x03a.b\x04evil\x07example")); !found {
		t.Error("a name below was not found")
	}
}

func TestEmpty(t *testing.T) {
	t.Parallel()
	s := build(t)
	if _, found := s.Find(wire("evil.example")); found || !s.Filter().Empty() {
		t.Error("found something in an empty set")
	}
}

func TestNoName(t *testing.T) {
	t.Parallel()
	b, err := NewBuilder(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for _, name := range []string{"", ".", "a..b", strings.Repeat("a", 64), strings.Repeat("a.", 127) + "a"} {
		if err := b.Add(format.Entry{Name: name}); err == nil {
			t.Errorf("%q was added", name)
		}
	}
}

// Many of the same name cost what one costs.
func TestRepeated(t *testing.T) {
	t.Parallel()
	var all []format.Entry
	for i := range 200_000 {
		all = append(all, format.Entry{Name: "evil.example", Kind: format.Kind(i % 3), Line: i + 1}, format.Entry{Name: "x" + strconv.Itoa(i%7) + ".example"})
	}
	s := build(t, all...)
	if n, _ := s.Entries(); n != 10 {
		t.Errorf("%d entries, want 10", n)
	}
	if m, _ := s.Find(wire("evil.example")); m.Line() != 1 {
		t.Errorf("line %d, want the first", m.Line())
	}
}

// What is not whole is refused, and what was changed does no harm: whoever compiles may not be trusted.
func TestBroken(t *testing.T) {
	t.Parallel()
	b, err := NewBuilder(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	b.File("/list")
	for i := range 100 {
		b.Add(format.Entry{Name: fmt.Sprintf("n%d.example", i), Kind: format.Kind(i % 3), Comment: "c"})
	}
	file, err := Temporary(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := b.Build(file); err != nil {
		t.Fatal(err)
	}
	st, _ := file.Stat()
	good := make([]byte, st.Size())
	file.ReadAt(good, 0)
	for n := int64(0); n < st.Size(); n += 7 {
		cut, _ := Temporary(t.TempDir())
		cut.Write(good[:n])
		if _, err := Open(cut); err == nil {
			t.Errorf("the first %d of %d bytes were opened", n, st.Size())
		}
		cut.Close()
	}
	for at := range good {
		bad := append([]byte(nil), good...)
		bad[at] ^= byte(1 + rand.IntN(255))
		changed, _ := Temporary(t.TempDir())
		changed.Write(bad)
		if s, err := Open(changed); err == nil {
			for i := range 100 {
				if m, found := s.Find(wire(fmt.Sprintf("a.n%d.example", i))); found {
					_ = m.File() + m.Name() + m.Comment() + m.Kind().String()
				}
			}
		}
		changed.Close()
	}
}

// A match outlives the set that it is of.
func TestReplaced(t *testing.T) {
	t.Parallel()
	m, found := build(t, format.Entry{Name: "evil.example", Kind: format.Whole, Comment: "still there"}).Find(wire("evil.example"))
	runtime.GC()
	runtime.GC()
	if !found || m.Name() != "evil.example" || m.Comment() != "still there" {
		t.Error("the match was lost")
	}
}

// plain decides by a map, in the plainest way.
type plain map[format.Entry]bool

func (p plain) has(name string, except bool) bool {
	if p[format.Entry{Name: name, Kind: format.Self, Except: except}] {
		return true
	}
	for above, own := name, true; ; own = false {
		if p[format.Entry{Name: above, Kind: format.Whole, Except: except}] || !own && p[format.Entry{Name: above, Kind: format.Below, Except: except}] {
			return true
		}
		_, rest, more := strings.Cut(above, ".")
		if !more {
			return false
		}
		above = rest
	}
}

// The set and a plain map agree on every question. CULPRIT_SOAK_QUESTIONS asks more of them.
func TestAgainstMap(t *testing.T) {
	t.Parallel()
	names, questions := 20_000, 200_000
	if n, err := strconv.Atoi(os.Getenv("CULPRIT_SOAK_QUESTIONS")); err == nil {
		names, questions = 1_000_000, n
	}
	// Few different labels, so that names are above each other, beside each other and the same.
	name := func() string {
		labels := make([]string, 1+rand.IntN(5))
		for i := range labels {
			labels[i] = strconv.FormatInt(rand.Int64N(60), 36)
		}
		return strings.Join(labels, ".")
	}
	p := plain{}
	var all []format.Entry
	for i := range names {
		e := format.Entry{Name: name(), Kind: format.Kind(rand.IntN(3)), Except: i%50 == 0}
		if strings.Count(e.Name, ".") == 0 {
			e.Kind = format.Self // or everything would match
		}
		all = append(all, e)
		p[e] = true
	}
	s := build(t, all...)
	hits := 0
	for range questions {
		q := name()
		_, found := s.Find(wire(q))
		if want := p.has(q, false) && !p.has(q, true); found != want {
			t.Fatalf("%s: found %v, the map says %v", q, found, want)
		}
		if found {
			hits++
		}
		if p.has(q, false) && !s.Filter().May(wire(q)) || p.has(q, true) && !s.Exceptions().May(wire(q)) {
			t.Fatalf("%s: the filter would have dropped it", q)
		}
	}
	t.Logf("%d of %d questions were hits, none of them wrong", hits, questions)
}

func FuzzFind(f *testing.F) {
	s := build(f, format.Entry{Name: "evil.example", Kind: format.Whole}, format.Entry{Name: "good.evil.example", Kind: format.Whole, Except: true})
	f.Add([]byte("\x04evil\x07example"))         // a hit
	f.Add([]byte("\x04good\x04evil\x07example")) // an exception
	f.Add([]byte("\x0cevil.example"))            // a dot in a label
	f.Add([]byte("\x04evil\x07example\x00"))     // the root at the end
	f.Add([]byte("\xc0\x0c"))                    // a pointer
	f.Fuzz(func(t *testing.T, b []byte) {
		m, found := s.Find(b)
		want := strings.HasSuffix(string(b), "\x04evil\x07example") && !strings.HasSuffix(string(b), "\x04good\x04evil\x07example")
		var l labels
		if found && (!want || !l.read(b) || m.Name() != "evil.example") {
			t.Errorf("%q: %v", b, found)
		}
	})
}
