package lists

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"culprit/internal/config"
	"culprit/lists/format"
)

// directory is one of lists that belongs to root alone, or to whoever tests.
type directory struct {
	t   testing.TB
	dir string
}

func newDirectory(t testing.TB) directory {
	t.Helper()
	return directory{t, t.TempDir()}
}

func (d directory) write(name, text string) string {
	d.t.Helper()
	path := filepath.Join(d.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		d.t.Fatal(err)
	}
	return path
}

// replace gives a new file the name of another.
func (d directory) replace(name, text string) {
	d.t.Helper()
	if err := os.Rename(d.write(".new", text), filepath.Join(d.dir, name)); err != nil {
		d.t.Fatal(err)
	}
}

func (d directory) rule(list string, except ...string) config.Rule {
	r := config.Rule{Name: "feed", Format: "auto", List: config.Paths{filepath.Join(d.dir, list)}}
	for _, e := range except {
		r.Except = append(r.Except, filepath.Join(d.dir, e))
	}
	return r
}

func (d directory) load(r config.Rule, old map[string]*List) (map[string]*List, map[string]error) {
	d.t.Helper()
	all, kept, err := LoadAll(d.t.Context(), []config.Rule{r, {Name: "other", String: "x"}}, old, d.dir)
	if err != nil {
		d.t.Fatal(err)
	}
	return all, kept
}

// finds reports whether a list has a name.
func finds(l *List, name string) bool {
	var wire []byte
	for label := range strings.SplitSeq(name, ".") {
		wire = append(append(wire, byte(len(label))), label...)
	}
	_, found := l.Set.Find(wire)
	return found
}

// A pattern takes all files that it matches, but those with exceptions, and those that are being written.
func TestLoad(t *testing.T) {
	t.Parallel()
	d := newDirectory(t)
	d.write("a.txt", "one.example\nnot a name\ngood.one.example\n")
	d.write("b.txt", "0.0.0.0 two.example\n127.0.0.1 localhost\n")
	d.write("allow.txt", "good.one.example\n")
	d.write(".hidden.txt", "three.example\n")
	all, _ := d.load(d.rule("*.txt", "allow.txt"), nil)
	l := all["feed"]
	if len(all) != 1 || len(l.Files) != 3 {
		t.Fatalf("%d lists, files %+v", len(all), l.Files)
	}
	if l.Files[0].Format != format.Domains || l.Files[1].Format != format.Hosts || !l.Files[2].Except || l.Files[0].Rejects() != 1 {
		t.Errorf("%+v", l.Files)
	}
	for name, want := range map[string]bool{"one.example": true, "a.one.example": true, "good.one.example": false, "two.example": true, "three.example": false} {
		if finds(l, name) != want {
			t.Errorf("%s is listed: %v", name, !want)
		}
	}
	if listed, excepted := l.Entries(); listed != 3 || excepted != 1 {
		t.Errorf("%d entries, %d exceptions", listed, excepted)
	}
}

// What has not changed is not read again; what cannot be read any more stays as it was.
func TestLoadAgain(t *testing.T) {
	t.Parallel()
	d := newDirectory(t)
	path := d.write("a.txt", "one.example\ntwo.example\nthree.example\n")
	r := d.rule("a.txt")
	first, _ := d.load(r, nil)
	same, _ := d.load(r, first)
	if same["feed"] != first["feed"] {
		t.Error("a list that has not changed was read again")
	}
	d.replace("a.txt", "four.example\n")
	next, kept := d.load(r, first)
	if len(kept) > 0 || !finds(next["feed"], "four.example") || finds(next["feed"], "one.example") {
		t.Errorf("the new list is not in force; kept: %v", kept)
	}
	if !next["feed"].Shrunk(first["feed"]) || first["feed"].Shrunk(next["feed"]) || next["feed"].Shrunk(nil) {
		t.Error("a list that lost two of three names has not shrunk")
	}
	for name, breakIt := range map[string]func(){
		"gone":        func() { os.Remove(path) },
		"a page":      func() { d.write("a.txt", "<html><body>502 Bad Gateway</body></html>\n") },
		"a directory": func() { os.Remove(path); os.Mkdir(path, 0o700) },
	} {
		breakIt()
		again, kept := d.load(r, next)
		if again["feed"] != next["feed"] || kept["feed"] == nil || !strings.Contains(kept["feed"].Error(), path) {
			t.Errorf("%s: kept %v", name, kept)
		}
		os.Remove(path)
	}
	if _, _, err := LoadAll(t.Context(), []config.Rule{r}, nil, d.dir); err == nil {
		t.Error("a list that is not there was loaded")
	}
}

// Every mistake is named, with its key.
func TestCheck(t *testing.T) {
	t.Parallel()
	d := newDirectory(t)
	d.write("good.txt", "one.example\n")
	d.write("allow.txt", "one.example\n")
	open := d.write("open.txt", "one.example\n")
	shared := filepath.Join(d.dir, "shared")
	if err := os.Mkdir(shared, 0o700); err != nil {
		t.Fatal(err)
	}
	d.write("shared/in.txt", "one.example\n")
	for path, mode := range map[string]os.FileMode{open: 0o666, shared: 0o777} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	text := fmt.Sprintf(`rules:
  - {name: a, list: [%[1]s/good.txt, %[1]s/none.txt]}
  - {name: b, list: %[1]s/*.rpz}
  - {name: c, list: %[1]s/open.txt, except: %[1]s/nowhere.txt}
  - {name: d, list: %[1]s/shared/in.txt}
  - {name: e, list: %[1]s}
  - {name: f, list: %[1]s/allow.txt, except: %[1]s/allow.txt}
  - {name: g, list: %[1]s/good.txt}
`, d.dir)
	c, err := config.Load(d.write("config.yaml", text))
	if err != nil {
		t.Fatal(err)
	}
	err = Check(c)
	if err == nil {
		t.Fatal("no mistake was found")
	}
	var got []string
	for line := range strings.SplitSeq(err.Error(), "\n") {
		got = append(got, strings.ReplaceAll(line, d.dir, "D"))
	}
	want := []string{
		"D/config.yaml:2: rules[0].list[1]: open D/none.txt: no such file or directory",
		"D/config.yaml:3: rules[1].list[0]: no file matches D/*.rpz",
		"D/config.yaml:4: rules[2].list[0]: anybody can write to D/open.txt: chmod o-w D/open.txt",
		"D/config.yaml:4: rules[2].except[0]: open D/nowhere.txt: no such file or directory",
		"D/config.yaml:5: rules[3].list[0]: anybody can write to D/shared: chmod o-w D/shared",
		"D/config.yaml:6: rules[4].list[0]: D is no regular file",
		"D/config.yaml:7: rules[5].list: has no file that is not also one of except",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// The configuration knows the same formats.
func TestFormats(t *testing.T) {
	t.Parallel()
	want := []string{string(format.Auto)}
	for _, f := range format.All() {
		want = append(want, string(f))
	}
	if !slices.Equal(config.Formats, want) {
		t.Errorf("the configuration knows %v, want %v", config.Formats, want)
	}
}
