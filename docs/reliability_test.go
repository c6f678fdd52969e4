package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Each fault that docs/reliability.md tells of names the tests that show what happens; and
// those are there.
func TestReliabilityNamesItsTests(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("reliability.md")
	if err != nil {
		t.Fatal(err)
	}
	name := regexp.MustCompile("^`(?:([a-z/]+)/)?(Test[A-Za-z0-9]+)`$")
	faults := 0
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		if !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "| ---") || strings.HasSuffix(strings.TrimSpace(line), "| test |") {
			continue
		}
		faults++
		if len(cells) != 3 {
			t.Errorf("a row of %d cells, want fault, what happens, test: %s", len(cells), line)
			continue
		}
		for _, cited := range strings.Split(strings.TrimSpace(cells[2]), ", ") {
			m := name.FindStringSubmatch(cited)
			if m == nil {
				t.Errorf("%q is no test: want `TestName`, of another directory than those in test/ `dir/TestName`; of %s", cited, line)
				continue
			}
			dir := filepath.Join("..", m[1])
			if m[1] == "" {
				dir = "../test/*"
			}
			if !hasTest(t, dir, m[2]) {
				t.Errorf("there is no %s in %s, which is to show: %s", m[2], dir, line)
			}
		}
	}
	if faults < 20 {
		t.Errorf("only %d faults were found", faults)
	}
}

// hasTest reports whether a directory, or one of those that the pattern matches, has a test of
// that name.
func hasTest(t *testing.T, dir, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "\nfunc "+name+"(t *testing.T) {") {
			return true
		}
	}
	return false
}
