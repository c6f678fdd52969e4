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
	namesItsTests(t, "reliability.md", 3, 20)
}

// So does each row of the table of who may wait for whom.
func TestArchitectureNamesItsTests(t *testing.T) {
	t.Parallel()
	namesItsTests(t, "architecture.md", 4, 13)
}

// namesItsTests checks the tables of a page whose last column is "test": that they have so many
// columns, so many rows at least, and that the tests are there.
func namesItsTests(t *testing.T, page string, columns, least int) {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	name := regexp.MustCompile("^`(?:([a-z/]+)/)?(Test[A-Za-z0-9]+)`$")
	rows, inTable := 0, false
	for line := range strings.Lines(string(text)) {
		header := strings.HasSuffix(strings.TrimSpace(line), "| test |")
		inTable = header || inTable && strings.HasPrefix(line, "|")
		if !inTable || header || strings.HasPrefix(line, "| ---") {
			continue
		}
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		rows++
		if len(cells) != columns {
			t.Errorf("a row of %d cells, want %d: %s", len(cells), columns, line)
			continue
		}
		for _, cited := range strings.Split(strings.TrimSpace(cells[columns-1]), ", ") {
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
	if rows < least {
		t.Errorf("only %d rows were found", rows)
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
