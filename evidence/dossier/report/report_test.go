package report

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/html"

	"culprit/internal/event"
)

var update = flag.Bool("update", false, "write the golden files anew")

func render(t testing.TB, c *Case) (page, plain string) {
	t.Helper()
	var h, p bytes.Buffer
	if err := HTML(&h, c); err != nil {
		t.Fatal(err)
	}
	if err := Text(&p, c); err != nil {
		t.Fatal(err)
	}
	return h.String(), p.String()
}

func TestTextGolden(t *testing.T) {
	t.Parallel()
	_, got := render(t, cron())
	const golden = "testdata/cron.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Error(diff)
	}
}

// The summary says no more than is known.
func TestSummary(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(*Case)
		want   []string
		not    string
	}{
		"proven": {func(c *Case) {}, []string{"asked for `x7f3.badzone.test`, in 3 packets", "The program was `php", "line 1498"}, "probably"},
		"one packet": {
			func(c *Case) { c.Hits, c.Proofs, c.Capture.Culprit.Hits = c.Hits[1:2], c.Proofs[:1], 1 },
			[]string{"On 2026-11-22 at 14:04:07.510 the user", "line 1498 of its trace sent the packet."},
			"packets",
		},
		"probable": {
			func(c *Case) { c.Proofs[0].Culprit.Probable, c.Proofs[1].Culprit.Probable = true, true },
			[]string{"The program was probably `php", "0 of 3 packets, and 2 probable"},
			"sent the packet",
		},
		"socket": {func(c *Case) { c.Proofs = nil }, []string{"Most likely the program was `php", "no line of a trace proves that it sent it (strace was on"}, "The program was"},
		"kernel": {func(c *Case) {
			c.Proofs = nil
			for i := range c.Hits {
				seenBy(&c.Hits[i], "sendto")
			}
		}, []string{"The program was `php", "the kernel saw it send the packet, but no line of a trace shows it (strace was on", "kernel: 813 php", "1 packet without proof: strace was on", "2 packets without proof: "}, "Most likely"},
		"kernel, and a line that may be it": {func(c *Case) {
			c.Proofs[0].Culprit.Probable = true
			c.Proofs[0].Culprit.TID = 903 // another process
			seenBy(&c.Hits[1], "sendto")
			c.Hits, c.Proofs, c.Capture.Culprit.Hits = c.Hits[1:2], c.Proofs[:1], 1
		}, []string{"The program was `php", "the kernel saw it send the packet", "kernel, see 1: line 1498"}, "find"},
		"proven by the kernel": {func(c *Case) {
			c.Proofs[0].Culprit.Kernel, c.Proofs[0].Culprit.Syscall = true, "sendfile"
			seenBy(&c.Hits[1], "sendfile")
			c.Hits[1].Culprit.Sent.User = event.User{ID: "33", Name: "www-data"}
		}, []string{"Proof by the kernel 1", "the kernel saw this call send the packet; its bytes do not show", "Kernel saw thread 902 of www-data (33) in sendfile", "Socket opened by web1 (4242)"}, "probable"},
		"two lines": {func(c *Case) {
			c.Proofs[0].Culprit.Parts = []event.Line{{Syscall: "sendto", Line: 1497}}
		}, []string{"lines 1497 and 1498 of its trace", "Trace lines 1497 and 1498 of 902"}, "probable"},
		"candidates": {func(c *Case) {
			c.Proofs = nil
			for i := range c.Hits {
				h := &c.Hits[i]
				h.Culprit.Origin = event.Origin{Grade: event.GradeCandidates, Reason: &event.Unattributed{Code: event.UnattributedClosed}, Processes: []event.Process{*h.Process}}
				h.Process = nil
			}
		}, []string{"not known: the socket was closed already. It may have been", "a guess: `php"}, "Most likely"},
		"nobody": {func(c *Case) {
			c.Proofs = nil
			for i := range c.Hits {
				c.Hits[i].Culprit.Origin, c.Hits[i].Process = event.Origin{Grade: event.GradeNone, Reason: &event.Unattributed{Code: "no UID"}}, nil
			}
		}, []string{"The program is not known: no UID."}, "may have been"},
		"some unknown": {func(c *Case) { c.Hits[0].Process = nil }, []string{"For 1 packet of 3 no program is known."}, ""},
		"proof left out": {func(c *Case) {
			c.Hits[0].Process, c.Hits[0].Culprit.Proof = nil, &event.ProofDetail{}
			c.ProofsLeftOut = 1
		}, []string{"2 of 3 packets, and 1 left out", "proven: its proof is not in this report", "1 proof left out of this report"}, "no program is known"},
		"two programs": {
			func(c *Case) { c.Proofs[1].Culprit.TID, c.Proofs[1].Timestamp = 903, at(69.5) },
			[]string{"2 programs sent them: lines of their traces prove it", "1 proven, 1 socket packets"},
			"The program was",
		},
		"a descendant": {func(c *Case) {
			c.Hits, c.Proofs = nil, c.Proofs[:1]
			c.Proofs[0].Culprit.TID = 999
		}, []string{"The program was this, or was started by it: `php"}, ""},
		"no DNS":    {func(c *Case) { c.Hits[0].DNS = nil }, []string{"matched the rule `badzone`", "127.0.0.1:53"}, ""},
		"by hand":   {func(c *Case) { c.Hits, c.Proofs, c.Capture.Culprit.Hits = nil, nil, 0 }, []string{"was started by hand: no suspicious packet was seen"}, "program was"},
		"left out":  {func(c *Case) { c.Hits, c.HitsLeftOut, c.Proofs = nil, 3, nil }, []string{"3 packets, which are not in this report", "3 packets left out"}, ""},
		"all empty": {func(c *Case) { *c = Case{} }, []string{"no suspicious packet was seen"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := cron()
			test.change(c)
			_, got := render(t, c)
			got = strings.Join(strings.Fields(got), " ")
			for _, want := range test.want {
				if !strings.Contains(got, want) {
					t.Errorf("%q is not in %s", want, got)
				}
			}
			if before, _, _ := strings.Cut(got, "Facts ---"); test.not != "" && strings.Contains(before, test.not) {
				t.Errorf("%q is in %s", test.not, before)
			}
		})
	}
}

// seenBy makes a hit one whose sender the kernel saw.
func seenBy(h *event.Hit, syscall string) {
	h.Culprit.Origin = event.Origin{Grade: event.GradeKernel}
	h.Culprit.Sent = &event.Sent{Timestamp: h.Timestamp, TID: h.Process.PID, Syscall: syscall, User: *h.User}
}

// hostile is what an adversary would write: tags, quotes, ends of other languages,
// marks that turn the direction of writing, controls, a label of 63 bytes.
const hostile = "\"'><script>document.documentElement.dataset.owned=1</script><img src=x onerror=alert(1)></title></style>{{.}}`" +
	"\u202egnp.exe\u2066\x1b[2J\x00\n> 1498  forged\r\u2028\xff עברית "

var label = strings.Repeat("w", 63)

// poison puts s into every string that v holds, but not into the keys of maps.
func poison(v reflect.Value, s string) {
	switch v.Kind() {
	case reflect.String:
		if v.CanSet() {
			v.SetString(s)
		}
	case reflect.Pointer:
		if !v.IsNil() {
			poison(v.Elem(), s)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() && v.Type() != reflect.TypeFor[time.Time]() {
				poison(v.Field(i), s)
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			poison(v.Index(i), s)
		}
	case reflect.Map:
		for _, k := range v.MapKeys() {
			value := reflect.New(v.Type().Elem()).Elem()
			value.Set(v.MapIndex(k))
			poison(value, s)
			v.SetMapIndex(k, value)
		}
	}
}

// poisoned is the cron job of an adversary. What the documents name each other by
// stays, so that all that can be shown is shown.
func poisoned() *Case {
	s := hostile + label + "." + label + "." + label + " "
	c := cron()
	clean := cron()
	poison(reflect.ValueOf(c), s)
	for i := range c.Hits {
		c.Hits[i].Event.ID = clean.Hits[i].Event.ID
		h := &c.Hits[i].Culprit
		h.Questions = []event.DNS{*c.Hits[i].DNS}
		h.Origin.Processes = []event.Process{*c.Hits[i].Process}
	}
	for i := range c.Traces {
		c.Traces[i].Event.ID, c.Traces[i].Process.EntityID = clean.Traces[i].Event.ID, clean.Traces[i].Process.EntityID
	}
	for i := range c.Programs {
		c.Programs[i].Process.EntityID = clean.Programs[i].Process.EntityID
	}
	for i := range c.Proofs {
		c.Proofs[i].Event.ID, c.Proofs[i].Culprit.Hit, c.Proofs[i].Culprit.Trace = clean.Proofs[i].Event.ID, clean.Proofs[i].Culprit.Hit, clean.Proofs[i].Culprit.Trace
	}
	c.Capture.Culprit.Missed = event.MissedCounts{event.UntracedCode(s): 2}
	c.Unproven["H1"] = s
	return c
}

// Whatever others wrote stays text: in HTML no element or attribute comes of it, and
// on a terminal nothing is obeyed and no line is forged.
func TestHostile(t *testing.T) {
	t.Parallel()
	page, plain := render(t, poisoned())
	for name, s := range map[string]string{"HTML": page, "text": plain} {
		if !utf8.ValidString(s) {
			t.Errorf("%s is not valid UTF-8", name)
		}
		for i, r := range s {
			if r != '\n' && !unicode.IsPrint(r) {
				t.Fatalf("%s holds %U: %q", name, r, s[max(0, i-50):min(len(s), i+50)])
			}
		}
	}
	for line := range strings.Lines(plain) {
		if strings.HasPrefix(line, "> 1498") {
			t.Errorf("forged: %s", line)
		}
	}
	allowed := map[string]bool{"i": true} // how much of a line is not shown
	clean, _ := render(t, cron())
	walk(t, clean, func(n *html.Node) { allowed[n.Data] = true })
	walk(t, page, func(n *html.Node) {
		if !allowed[n.Data] || n.Data == "script" || n.Data == "img" {
			t.Errorf("an element %s came of text", n.Data)
		}
		for _, a := range n.Attr {
			if strings.HasPrefix(a.Key, "on") || a.Key == "src" || a.Key == "href" && !strings.HasPrefix(a.Val, "#proof-") || strings.Contains(a.Val, "owned") {
				t.Errorf("%s has the attribute %s=%q", n.Data, a.Key, a.Val)
			}
		}
	})
	if !strings.Contains(page, `\u202egnp.exe`) {
		t.Error("the mark that turns the direction is not shown")
	}
}

func walk(t *testing.T, page string, f func(*html.Node)) {
	t.Helper()
	root, err := html.Parse(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	for n := range root.Descendants() {
		if n.Type == html.ElementNode {
			f(n)
		}
	}
}

// Links lead somewhere, and no name is given twice.
func TestLinks(t *testing.T) {
	t.Parallel()
	for _, c := range []*Case{cron(), crowd(300, 3000)} {
		page, _ := render(t, c)
		ids := map[string]bool{}
		walk(t, page, func(n *html.Node) {
			for _, a := range n.Attr {
				if a.Key == "id" && ids[a.Val] {
					t.Errorf("the id %s is given twice", a.Val)
				}
				if a.Key == "id" {
					ids[a.Val] = true
				}
			}
		})
		links := 0
		walk(t, page, func(n *html.Node) {
			for _, a := range n.Attr {
				if a.Key == "href" || a.Key == "aria-labelledby" {
					links++
					if !ids[strings.TrimPrefix(a.Val, "#")] {
						t.Errorf("nothing is at %s", a.Val)
					}
				}
			}
		})
		if links == 0 {
			t.Error("there are no links")
		}
	}
}

// What is shown in full can be asked for, so that nobody reads traces for nothing.
func TestShown(t *testing.T) {
	t.Parallel()
	c := crowd(100, 2000)
	page, _ := render(t, c)
	shown := c.Shown()
	if len(shown) != maxProofs || strings.Count(page, "<article") != maxProofs {
		t.Errorf("%d proofs are named, %d shown", len(shown), strings.Count(page, "<article"))
	}
	if len((&Case{}).Shown()) != 0 {
		t.Error("an empty case has proofs")
	}
}

func TestWidth(t *testing.T) {
	t.Parallel()
	for _, c := range []*Case{cron(), poisoned(), crowd(100, 300)} {
		_, plain := render(t, c)
		for line := range strings.Lines(plain) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > width {
				t.Errorf("%d columns: %s", n, line)
			}
		}
	}
}

// A report of a huge capture is small, and says what it leaves out.
func TestBounds(t *testing.T) {
	t.Parallel()
	c := crowd(1000, 10_000)
	c.HitsLeftOut, c.Capture.Culprit.Hits = 5000, 15_000
	page, plain := render(t, c)
	if len(page) > 5<<20 {
		t.Errorf("the report has %d bytes", len(page))
	}
	for _, want := range []string{"14800 more packets", "4970 more proofs", "5000 packets left out of this report", "more processes are left out", "not drawn"} {
		if !strings.Contains(page, want) {
			t.Errorf("%q is not told", want)
		}
	}
	if want := "and 14800 more packets that are left out here"; !strings.Contains(plain, want) {
		t.Errorf("%q is not told", want)
	}
	// Every character is one that HTML escapes to five.
	long := strings.Repeat(`"`, 4096)
	for i := range c.Hits {
		c.Hits[i].DNS.Question.Name = long
	}
	for i := range c.Programs {
		c.Programs[i].Process.CommandLine, c.Traces[i].Process.CommandLine = fmt.Sprint(long, i), fmt.Sprint(long, i)
		c.Programs[i].Process.Executable, c.Programs[i].Process.Parent.CommandLine = long, long
	}
	for id, e := range c.Excerpts {
		for len(e.Lines) < 100 {
			e.Lines = append(e.Lines, Line{Number: 1})
		}
		for i := range e.Lines {
			e.Lines[i].Text = long
		}
		c.Excerpts[id] = e
	}
	for range 100 {
		s := snapshotFixture(c.Programs[0].Process)
		s.Process.Args, s.Process.EnvVars = slices.Repeat([]string{long}, 100), slices.Repeat([]string{long}, 100)
		s.Culprit.Maps = slices.Repeat([]event.Mapping{{Path: long}}, 100)
		s.Culprit.Files = slices.Repeat([]event.OpenFile{{Path: long}}, 100)
		s.Culprit.Sockets = slices.Repeat([]event.Socket{{Local: long}}, 100)
		s.Culprit.Stack = slices.Repeat([]event.Frame{{Function: long}}, 100)
		c.Snapshots = append(c.Snapshots, s)
	}
	page, _ = render(t, c)
	t.Logf("at worst %d bytes", len(page))
	if len(page) > 5<<20 || !strings.Contains(page, "more characters") || !strings.Contains(page, "more lines of this excerpt") || !strings.Contains(page, "95 more snapshots") {
		t.Errorf("the worst report has %d bytes", len(page))
	}
}

// Documents that call each other parent, or make a chain without end, end.
func TestParents(t *testing.T) {
	t.Parallel()
	a, b := process(10, 1, "/a", "a", nil), process(11, 2, "/b", "b", nil)
	pa, pb := a, b
	a.Parent, b.Parent = &pb, &pa
	// Without a time of its own the capture began in the year 1.
	c := &Case{Programs: []event.Program{program(a, 1, "scan", ""), program(b, 1, "scan", "")}}
	for i := range 5000 {
		parent := process(100+i, float64(i), "/c", "c", nil)
		c.Programs = append(c.Programs, program(process(101+i, float64(i+1), "/c", "c", &parent), 1, "fork", ""))
	}
	if page, _ := render(t, c); strings.Count(page, "<li") > maxNodes+20 {
		t.Errorf("the tree has %d nodes", strings.Count(page, "<li"))
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

func TestWriteError(t *testing.T) {
	t.Parallel()
	for _, f := range []error{HTML(full{}, cron()), Text(full{}, cron())} {
		if f == nil || !strings.Contains(f.Error(), "write the report: no space") {
			t.Errorf("got %v", f)
		}
	}
}

func BenchmarkHTML(b *testing.B) {
	c := crowd(1000, 10_000)
	b.ReportAllocs()
	var out bytes.Buffer
	for b.Loop() {
		out.Reset()
		if err := HTML(&out, c); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(out.Len())/(1<<20), "MiB/report")
}
