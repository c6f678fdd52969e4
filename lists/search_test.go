package lists

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"culprit/internal/config"
	"culprit/lists/format"
)

func TestMeans(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name               string
		self, below, whole bool
	}{
		{"evil.example", true, false, true},
		{"x.evil.example", false, true, true},
		{"x.y.evil.example", false, true, true},
		{"notevil.example", false, false, false},
		{"example", false, false, false},
		{"", false, false, false},
	} {
		for kind, want := range map[format.Kind]bool{format.Self: tt.self, format.Below: tt.below, format.Whole: tt.whole} {
			if got := means(format.Entry{Name: "evil.example", Kind: kind}, tt.name); got != want {
				t.Errorf("evil.example (%s) means %q: %v", kind, tt.name, got)
			}
		}
	}
}

// Search finds an entry in each of the lists that have it.
func TestSearch(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, list := range map[string]string{
		"a.txt": "x.example\nevil.example # C2\n", "b.hosts": "0.0.0.0 evil.example\n", "c.txt": "other.example\n", "allow": "*.example\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(list), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := config.Rule{Name: "r", List: config.Paths{dir + "/*.*"}, Except: config.Paths{dir + "/allow"}, Format: "auto"}
	var got []string
	err := Search(r, []string{"evil.example", "none.test"}, func(name, path string, e format.Entry) {
		got = append(got, fmt.Sprintf("%s %s:%d %s %v %v", name, filepath.Base(path), e.Line, e.Name, e.Except, e.Comment))
	})
	want := []string{"evil.example a.txt:2 evil.example false C2", "evil.example b.hosts:1 evil.example false ", "evil.example allow:1 example true "}
	if d := cmp.Diff(want, got); err != nil || d != "" {
		t.Error(err, d)
	}
	r.List = config.Paths{dir + "/missing"}
	if err := Search(r, nil, nil); err == nil {
		t.Error("a list that is not there is searched")
	}
}
