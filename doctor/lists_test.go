package doctor

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"culprit/internal/config"
)

// Lists that cannot be read fail, and those that others can change are told.
func TestLists(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "feed.txt")
	c := &config.Config{Rules: []config.Rule{{Name: "a", String: "x"}}}
	if got := listFiles(t.Context(), c); got.Status != OK || got.Found != "no rule has a list" {
		t.Errorf("without lists: %+v", got)
	}
	c.Rules = append(c.Rules, config.Rule{Name: "feed", List: config.Paths{path}})
	if got := listFiles(t.Context(), c); got.Status != Fail || !strings.Contains(got.Found, path) {
		t.Errorf("no file: %+v", got)
	}
	if err := os.WriteFile(path, []byte("evil.example\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := listFiles(t.Context(), c); got.Status != OK {
		t.Errorf("a list: %+v", got)
	}
	for mode, want := range map[os.FileMode]Status{0o660: Warn, 0o606: Fail} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if got := listFiles(t.Context(), c); got.Status != want {
			t.Errorf("mode %o: %+v", mode, got)
		}
	}
}
