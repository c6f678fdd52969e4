// Package docs tests that what the documentation quotes exists.
package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// A text is what the program can print: a literal, with "…" for what differs.
type text struct {
	text string
	at   token.Position
	// must is true for what a person has to find in the page.
	must bool
}

var (
	verb = regexp.MustCompile(`%[-+# 0]*[0-9]*(\.[0-9]+)?[a-zA-Z]`)
	cell = regexp.MustCompile("^\\| `([^`]+)` \\| ")
)

// texts reads the literals of all Go files that are no tests, nor help them.
func texts(t *testing.T) (all []text) {
	t.Helper()
	files := token.NewFileSet()
	err := filepath.WalkDir("..", func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() && (e.Name() == "testdata" || e.Name() == ".git" || path == "../test") {
			return filepath.SkipDir
		}
		if e.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(files, path, nil, 0)
		if err != nil {
			return err
		}
		required := map[ast.Expr]bool{}
		words := filepath.Base(filepath.Dir(path)) == "words"
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.ImportSpec, *ast.Field: // tags of fields
				return false
			case *ast.CallExpr:
				if told(n) {
					required[n.Args[0]] = true
				}
			case *ast.KeyValueExpr: // a reason
				if words {
					required[n.Value] = true
				}
			case *ast.BinaryExpr, *ast.BasicLit:
				if s, literal := flat(n.(ast.Expr)); literal {
					all = append(all, text{s, files.Position(n.Pos()), required[n.(ast.Expr)]})
					return false
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// told tells whether a call writes a warning or an error into the log: its first argument
// is what a person reads.
func told(call *ast.CallExpr) bool {
	f, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || len(call.Args) == 0 {
		return false
	}
	switch of, _ := flat(f.X); f.Sel.Name {
	case "Warn", "Error":
		return of == "log" || strings.HasSuffix(of, ".log")
	}
	return false
}

// flat is an expression as it will be printed, and whether it has a literal in it.
func flat(e ast.Expr) (s string, literal bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind == token.STRING {
			s, err := strconv.Unquote(e.Value)
			return verb.ReplaceAllString(strings.ReplaceAll(s, "%%", "%"), "…"), err == nil
		}
	case *ast.BinaryExpr:
		if e.Op == token.ADD {
			a, fromA := flat(e.X)
			b, fromB := flat(e.Y)
			if !fromA {
				a = "…"
			}
			if !fromB {
				b = "…"
			}
			return a + b, fromA || fromB
		}
	case *ast.ParenExpr:
		return flat(e.X)
	case *ast.Ident:
		return e.Name, false
	case *ast.SelectorExpr:
		of, _ := flat(e.X)
		return of + "." + e.Sel.Name, false
	}
	return "", false
}

// matches tells whether the parts of a quotation between its "…" stand in a text, one
// behind the other.
func matches(quoted, text string) bool {
	for part := range strings.SplitSeq(quoted, "…") {
		i := strings.Index(text, part)
		if i < 0 {
			return false
		}
		text = text[i+len(part):]
	}
	return true
}

func quotations(t *testing.T) (quoted []string) {
	t.Helper()
	page, err := os.ReadFile("troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(page)) {
		if m := cell.FindStringSubmatch(line); m != nil && len(strings.ReplaceAll(m[1], "…", "")) >= 8 {
			quoted = append(quoted, m[1])
		} else if strings.HasPrefix(line, "| ") && !strings.HasPrefix(line, "| it says | ") && !strings.HasPrefix(line, "| --- | ") {
			t.Errorf("this row quotes nothing: %s", line)
		}
	}
	return quoted
}

// What the page quotes the code can print.
func TestQuotationsExist(t *testing.T) {
	t.Parallel()
	all := texts(t)
	quoted := quotations(t)
	if len(quoted) < 50 {
		t.Fatalf("only %d quotations were found", len(quoted))
	}
	for _, q := range quoted {
		found := false
		for _, text := range all {
			found = found || matches(q, text.text)
		}
		if !found {
			t.Errorf("troubleshooting.md quotes what nobody prints: %s", q)
		}
	}
}

// Every warning and error of the log and every reason that the code names has its row.
func TestWarningsAreExplained(t *testing.T) {
	t.Parallel()
	quoted := quotations(t)
	checked := 0
	for _, text := range texts(t) {
		if !text.must {
			continue
		}
		checked++
		explained := false
		for _, q := range quoted {
			explained = explained || matches(q, text.text)
		}
		if !explained {
			t.Errorf("%s: troubleshooting.md has no row for: %s", text.at, text.text)
		}
	}
	if checked < 20 {
		t.Errorf("only %d warnings and losses were found", checked)
	}
}
