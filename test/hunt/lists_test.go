package hunt

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"culprit/internal/event"
	"culprit/test/harness"
)

// listRule is a rule with lists in a directory.
const listRule = harness.LongWindow + `
rules:
  - {name: feed, list: %s/*.txt, except: %[1]s/allow.txt}
`

// A name on a list is found, over UDP and TCP and both families, with where it stands and what is written beside it; an exception is not.
func TestLists(t *testing.T) {
	harness.EachBackend(t, func(t *testing.T, h *harness.Host) {
		dir := filepath.Join(h.Dir, "lists")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		h.Write("lists/feed.txt", "# a feed\nevil.test # C2, 2026-11-20\n")
		h.Write("lists/allow.txt", "good.evil.test\n")
		d := h.Hunt(fmt.Sprintf(listRule, dir))
		uid := harness.NewUID()
		for i, flags := range []string{"", "-t -w", "-s ::1", "-t -w -s ::1"} {
			for _, name := range []string{fmt.Sprintf("u%d.eVil.test", i), fmt.Sprintf("u%d.good.evil.test", i), fmt.Sprintf("u%d.devil.test", i)} {
				args := append([]string{"-n", name}, strings.Fields(flags)...)
				if p := h.StartAs(uid, harness.Programs.OffenderC, args...); p.Wait() != 0 {
					t.Fatalf("%v: %s", p.Cmd.Args, p.Output)
				}
			}
		}
		last := h.StartAs(uid, harness.Programs.OffenderC, "-n", "last.evil.test")
		last.Wait()
		hit := d.Hit("last.evil.test")
		if hit.Entry() != "feed.txt:2 evil.test # C2, 2026-11-20" || hit.Culprit.Listed.File != dir+"/feed.txt" {
			t.Errorf("%+v %+v", hit.Threat, hit.Culprit.Listed)
		}
		shown := h.Culprit("show", "--evidence", d.Evidence, hit.Event.ID).Must(t)
		if !strings.Contains(shown, dir+"/feed.txt:2") || !strings.Contains(shown, "# C2, 2026-11-20") {
			t.Errorf("culprit show does not say what is listed:\n%s", shown)
		}
		d.Stop()
		got := map[string]bool{}
		for _, hit := range d.Hits() {
			got[hit.DNS.Question.Name] = true
		}
		for i := range 4 {
			if name := fmt.Sprintf("u%d.evil.test", i); !got[name] {
				t.Errorf("%s is no hit", name)
			}
		}
		if len(got) != 5 {
			t.Errorf("other hits: %v", got)
		}
		if these, none := d.Hits("--list", "feed.txt"), d.Hits("--list", dir+"/allow.txt"); len(these) != 5 || len(none) != 0 {
			t.Errorf("--list finds %d and %d hits, want 5 and none", len(these), len(none))
		}
	})
}

// published are lists as each format has them: what stands before, between and after the names, and one line for each, with
// a comment where there can be one.
var published = map[string]struct{ before, line, between, after string }{
	"domains": {"# feed\n", "%s # C2\n", "", ""},
	"hosts":   {"127.0.0.1 localhost\n", "0.0.0.0 %s # C2\n", "", ""},
	"rpz":     {"$TTL 60\n$ORIGIN rpz.feed.\n@ SOA localhost. root. 1 60 60 60 60\n", "%s CNAME . ; C2\n", "", ""},
	"adblock": {"[Adblock Plus]\n! feed\n", "||%s^\n", "", ""},
	"dnsmasq": {"# feed\n", "address=/%s/0.0.0.0\n", "", ""},
	"csv":     {"type,domain,comment\n", "domain,%s,C2\n", "", ""},
	"stix":    {`{"type":"bundle","id":"bundle--1","objects":[`, `{"type":"indicator","pattern_type":"stix","pattern":"[domain-name:value = '%s']"}`, ",\n", `]}`},
	"misp":    {`{"response":{"Attribute":[`, `{"type":"domain","value":"%s","comment":"C2","to_ids":true}`, ",\n", `]}}`},
}

// publish writes a list of a million names in a format. One of them is FORMAT.evil.test.
func publish(t *testing.T, path, format string, names int) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := bufio.NewWriter(f)
	p := published[format]
	w.WriteString(p.before)
	for i := range names {
		name := fmt.Sprintf("n%d.feed.example", i)
		if i == names/2 {
			name = format + ".evil.test"
		}
		if i > 0 {
			w.WriteString(p.between)
		}
		fmt.Fprintf(w, p.line, name)
	}
	w.WriteString(p.after)
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
}

// A list of a million names, in the syntax of each format, is one line of the configuration. Not beside other tests: it takes
// both processors for some ten seconds.
func TestMillionNames(t *testing.T) {
	million := 1_000_000
	if testing.Short() {
		million = 10_000
	}
	h := harness.NewHost(t, "")
	config := harness.LongWindow + "rules:\n"
	for format := range published {
		path := filepath.Join(h.Dir, format+".list")
		publish(t, path, format, million)
		config += fmt.Sprintf("  - {name: %s, list: %s}\n", format, path)
	}
	d := h.Hunt(config)
	uid := harness.NewUID()
	for format := range published {
		for _, name := range []string{format + ".evil.test", "no" + format + ".evil.test"} {
			if p := h.StartAs(uid, harness.Programs.OffenderC, "-n", name); p.Wait() != 0 {
				t.Fatalf("%v: %s", p.Cmd.Args, p.Output)
			}
		}
	}
	for format := range published {
		hit := d.Hit(format + ".evil.test")
		if hit.Rule.Name != format || hit.Threat == nil || hit.Threat.Feed.Name != format+".list" {
			t.Errorf("%s: hit of rule %s, %+v", format, hit.Rule.Name, hit.Threat)
		}
		if strings.Contains(published[format].line, "C2") && (hit.Threat == nil || hit.Threat.Indicator.Description != "C2") {
			t.Errorf("%s: the comment is lost: %+v", format, hit.Threat)
		}
	}
	d.Stop()
	if n := len(d.Hits()); n != len(published) {
		t.Errorf("%d hits, want %d", n, len(published))
	}
}

// asker asks for so many names below evil.test, at most 10,000 in a second, and ends.
const asker = `
import os, socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect(("127.0.0.1", 53))
n, start = int(sys.argv[1]), time.monotonic()
for i in range(n):
    label = b"u%d" % i
    s.send(os.urandom(2) + b"\1\0\0\1\0\0\0\0\0\0" + bytes([len(label)]) + label + b"\4evil\4test\0\0\1\0\1")
    time.sleep(max(0, start + i / 10000 - time.monotonic()))
`

// A list that is replaced takes the place of the old one without a moment in which nobody looks: what both have is found, however
// often that happens. One that is broken does not.
func TestListsReload(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	list := filepath.Join(h.Dir, "feed.txt")
	version := 0
	replace := func(text string) {
		t.Helper()
		version++
		if err := os.Rename(h.Write(fmt.Sprintf(".feed%d", version), text), list); err != nil {
			t.Fatal(err)
		}
	}
	var names strings.Builder
	for i := range 1_000_000 {
		fmt.Fprintf(&names, "n%d.feed.example\n", i)
	}
	replace(names.String() + "evil.test\n")
	uid := harness.NewUID()
	config := fmt.Sprintf("rules: [{name: feed, list: %s}]\nnflog: {rate: 1000000, queue: 1000000}\nguard: {never_users: [%d]}\nlog: {format: json, level: info}\n", list, uid)
	d := h.Hunt(config)
	loaded := func(message string, times int) {
		t.Helper()
		harness.Eventually(t, message, func() error {
			if n := strings.Count(d.Output.String(), message); n < times {
				return fmt.Errorf("it was logged %d times, want %d", n, times)
			}
			return nil
		})
	}
	const questions = 40_000
	p := h.StartAs(uid, "python3", "-I", "-S", "-c", asker, fmt.Sprint(questions))
	reloads := 1
	for !p.Ended() {
		reloads++
		replace(fmt.Sprintf("%snew%d.test\nevil.test\n", names.String(), reloads))
		loaded("list loaded", reloads)
		d.Signal(syscall.SIGHUP)
		loaded(`"reloaded"`, reloads-1)
	}
	if p.Wait() != 0 {
		t.Fatalf("the asker failed: %s", p.Output)
	}
	t.Logf("%d reloads", reloads-1)
	replace("<html>502 Bad Gateway</html>\n")
	loaded("the names that it had stay in force", 1)
	h.StartAs(uid, harness.Programs.OffenderC, "-n", "broken.evil.test").Wait()
	d.Hit("broken.evil.test")
	replace("evil.test\n")
	loaded("has lost more than half of its names", 1)
	d.Stop()
	got := map[string]bool{}
	for _, hit := range d.Hits() {
		got[hit.DNS.Question.Name] = true
	}
	missed := 0
	for i := range questions {
		if !got[fmt.Sprintf("u%d.evil.test", i)] {
			missed++
		}
	}
	var lost uint64
	for _, l := range harness.List[event.Loss](d, "losses") {
		lost += l.Culprit.Count
	}
	if missed > 0 {
		t.Errorf("%d of %d questions were missed; %d losses were counted", missed, questions, lost)
	}
}
