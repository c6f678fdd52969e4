package proof

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"culprit/internal/event"
)

// show writes a story in short.
func show(s Story) string {
	var b strings.Builder
	for _, f := range s.Forks {
		fmt.Fprintf(&b, "%d by %d at %d\n", f.TID, f.Parent, f.Line)
	}
	for _, l := range s.Lines {
		if l.Gap {
			b.WriteString("…\n")
		}
		call, _, _ := strings.Cut(strings.Fields(l.Text)[2], "(")
		fmt.Fprintf(&b, "%d %d %s", l.Number, l.TID, call)
		if l.Proof {
			b.WriteString(" proof")
		}
		b.WriteByte('\n')
	}
	return b.String()
}

const threads = `# culprit trace: x
812 1.1 execve("/usr/bin/php", ["php", "cron.php"], []) = 0
812 1.1 openat(AT_FDCWD</>, "/lib/libc.so.6", O_RDONLY) = 3</lib/libc.so.6>
812 1.1 openat(AT_FDCWD</>, "/nowhere", O_RDONLY) = -1 ENOENT (No such file or directory)
812 1.2 clone(child_stack=NULL, flags=CLONE_VM <unfinished ...>
813 1.2 openat(AT_FDCWD</>, "/etc/hosts", O_RDONLY) = 3</etc/hosts>
812 1.2 <... clone resumed>)             = 813
813 1.3 read(3, "", 1) = 0
813 1.3 read(3, "", 1) = 0
814 1.3 write(1, "x", 1) = 1
813 1.3 getpid()          = 813
813 1.4 sendto(3<UDP:[1]>, "abc", 3, 0, NULL, 0) = 3
814 1.4 getpid() = 814
813 1.5 vfork( <unfinished ...>
813 1.6 close(3) = 0
813 1.7 exit(0) = ?
`

func TestExcerpt(t *testing.T) {
	for _, test := range []struct {
		name          string
		tid           int
		line          int64
		before, after int
		want          string
		parts         []event.Line
	}{
		{"thread", 813, 12, 1, 1, "813 by 812 at 7\n2 812 execve\n6 813 openat\n…\n11 813 getpid\n12 813 sendto proof\n14 813 vfork\n", nil},
		{"alone", 813, 12, 0, 0, "813 by 812 at 7\n2 812 execve\n6 813 openat\n…\n12 813 sendto proof\n", nil},
		{"all", 813, 12, 100, 100, "813 by 812 at 7\n2 812 execve\n6 813 openat\n8 813 read\n9 813 read\n11 813 getpid\n12 813 sendto proof\n14 813 vfork\n15 813 close\n16 813 exit\n", nil},
		{"no fork", 814, 13, 1, 1, "10 814 write\n13 814 getpid proof\n", nil},
		{"forked after it", 813, 6, 1, 0, "813 by 812 at 7\n2 812 execve\n6 813 openat proof\n", nil},
		{"first", 812, 2, 3, 1, "2 812 execve proof\n3 812 openat\n", nil},
		{"parts", 813, 12, 1, 0, "813 by 812 at 7\n2 812 execve\n6 813 openat\n8 813 read proof\n10 814 write proof\n…\n11 813 getpid proof\n12 813 sendto proof\n", []event.Line{{Line: 8}, {Line: 10}, {Line: 11}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, err := Excerpt(strings.NewReader(threads), event.ProofDetail{TID: test.tid, Line: test.line, Parts: test.parts}, test.before, test.after)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, show(s)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	for _, test := range []struct {
		tid  int
		line int64
	}{{813, 2}, {813, 1}, {813, 100}, {813, 0}, {7, 12}} {
		if s, err := Excerpt(strings.NewReader(threads), event.ProofDetail{TID: test.tid, Line: test.line, Parts: []event.Line{{Line: 12}}}, 2, 2); err == nil {
			t.Errorf("line %d of %d: %s, want an error", test.line, test.tid, show(s))
		}
	}
}

// The excerpt of a trace with endless lines and very many forks is small.
func TestExcerptBounds(t *testing.T) {
	var b strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&b, "%d 1.1 execve(\"%s\") = 0\n", i+2, strings.Repeat("x", 9000))
		fmt.Fprintf(&b, "1 1.1 clone() = %d\n", i+2)
	}
	fmt.Fprintf(&b, "1 1.1 sendto(%s)\n", strings.Repeat("x", 1<<20))
	s, err := Excerpt(strings.NewReader(b.String()), event.ProofDetail{TID: 1, Line: 6001}, 2, 1<<40)
	if err != nil {
		t.Fatal(err)
	}
	last := s.Lines[len(s.Lines)-1]
	if len(s.Lines) != maxEarlier+3 || !last.Proof || len(last.Text) != maxText || last.Cut+maxText != int64(len("1 1.1 sendto()")+1<<20) {
		t.Errorf("%d lines, the last of %d bytes and %d more", len(s.Lines), len(last.Text), last.Cut)
	}
}

func TestExcerptOfSamples(t *testing.T) {
	for _, test := range samples {
		trace, hits := readSample(t, test.name)
		m := NewMatcher()
		for _, match := range orders["sends first"](m, hits, scan(t, trace, whole)) {
			s, err := Excerpt(strings.NewReader(string(trace)), event.ProofDetail{TID: match.Send.TID, Line: match.Send.Line}, 5, 5)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(s.Lines[0].Text, " execve(") {
				t.Errorf("%s: the first line is %.100s", test.name, s.Lines[0].Text)
			}
		}
	}
}

func FuzzExcerpt(f *testing.F) {
	f.Add(threads, 813, int64(12), 2, 2)
	f.Add(threads, 812, int64(12), 2, 2)                                                                            // a line of another thread
	f.Add(threads, 813, int64(99), 2, -2)                                                                           // a line that is not there
	f.Add(threads, 814, int64(10), 99, 99)                                                                          // whose fork is not in the trace
	f.Add("812 1.1 openat() = y\n813\n813 x\n813 1.1 <... clone resumed>) = 9z\n813 1.1 open", 813, int64(5), 1, 1) // broken lines
	f.Add(threads+strings.Repeat("812 1.1 getpid() = 812\n", 4*lateForks), 812, int64(7), 0, 0)                     // more behind it than is read
	f.Fuzz(func(t *testing.T, trace string, tid int, line int64, before, after int) {
		s, err := Excerpt(strings.NewReader(trace), event.ProofDetail{TID: tid, Line: line, Parts: []event.Line{{Line: line - 1}, {Line: line + 1}}}, before, after)
		if err != nil {
			return
		}
		proofs := 0
		for _, l := range s.Lines {
			if l.Proof {
				proofs++
			}
		}
		if proofs < 1 || proofs > 3 {
			t.Errorf("%d proven lines", proofs)
		}
	})
}
