package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"culprit/test/harness"
)

// What `culprit check`, `culprit lists` and `culprit lists test` say of lists, and of the hits that these had.
func TestListsOfDomains(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	dir := filepath.Join(h.Dir, "lists")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(name, list string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(list), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	c2 := write("c2.txt", "evil.test # C2, \x1b[31m\n192.0.2.1\nno domain\n")
	hosts := write("ads.hosts", "0.0.0.0 localhost\n0.0.0.0 evil.test\n0.0.0.0 ads.test\n")
	allow := write("allow", "ok.evil.test\n")
	d := h.Hunt(fmt.Sprintf("rules: [{name: tif, list: '%s/*.*', except: %s}]\n", dir, allow))
	s := h.Sender(harness.NewUID())
	s.Ask("x.evil.test")
	d.Hit("x.evil.test")

	check := h.Culprit("check", "-c", d.Config)
	check.Must(t)
	for _, want := range []string{c2 + ":2: an address: 192.0.2.1\n", c2 + ":3: not a line of this format: no domain\n"} {
		if !strings.Contains(check.Errors, want) {
			t.Errorf("check does not say %q:\n%s", want, check.Errors)
		}
	}
	says(t, check.Out, c2+": 1 name, 2 rejected (domains)", hosts+": 2 names, 1 rejected (hosts)", allow+": 1 name, 0 rejected (domains, exceptions)")

	all := h.Culprit("lists", "-c", d.Config).Must(t)
	says(t, all, "rule tif: 3 names and 1 exception, loaded in ", "rejected in "+hosts+": 1 a name of the local machine")
	for line := range strings.Lines(all) {
		if cells := strings.Fields(line); len(cells) == 7 && cells[1] == c2 && (cells[2] != "domains" || cells[3] != "1" || cells[6] != "1") {
			t.Errorf("wrong, or without its hit: %s", line)
		}
	}

	test := h.Culprit("lists", "test", "-c", d.Config, "X.Evil.Test.", "evil.test", "ok.evil.test", "none.test")
	says(t, test.Must(t), "X.Evil.Test.: a hit of rule tif\n  listed    c2.txt:1 evil.test (the name and everything below it) # C2, \\x1b[31m\n",
		"  listed    ads.hosts:2 evil.test (the name alone)\n", "ok.evil.test: no hit of rule tif, as it is an exception\n",
		"  excepted  allow:1 ok.evil.test (the name and everything below it)\n", "none.test: on no list\n")
	if r := h.Culprit("lists", "test", "-c", d.Config, "none.test", "ok.evil.test"); r.Code != 1 || r.Errors != "" {
		t.Errorf("exit status %d, %q", r.Code, r.Errors)
	}
	h.Culprit("lists", "test", "-c", d.Config).Fails(t, 2, "name at least one domain")
	h.Culprit("lists", "test", "-c", d.Config, "a..b").Fails(t, 2, "a..b")

	write("broken.txt", "<html>\n")
	for _, command := range [][]string{{"check"}, {"lists"}} {
		h.Culprit(append(command, "-c", d.Config)...).Fails(t, 1, filepath.Join(dir, "broken.txt"), "HTML")
	}
}

// says checks that a text has others.
func says(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("it does not say %q:\n%s", part, text)
		}
	}
}
