package event

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

// As JSON, a text that is cut has the allowed length, and not one rune less.
func TestCut(t *testing.T) {
	t.Parallel()
	var runes strings.Builder
	for r := range rune(0x3000) {
		runes.WriteRune(r)
	}
	for _, s := range []string{
		"", "plain", strings.Repeat("\x01", 100), strings.Repeat("<&>", 50), "\xff\xfe\xc3", strings.Repeat("ä€😀", 20),
		"\"\\\n\r\t\b\f\u2028\u2029\ufffd\x7f", runes.String(),
	} {
		for _, most := range []int{0, 1, 5, 6, 7, 12, 64, 300, 1 << 20} {
			got := Cut(s, most)
			kept := strings.TrimSuffix(got, "…")
			if !strings.HasPrefix(s, kept) {
				t.Fatalf("%q became %q", s, got)
			}
			if n := length(t, kept); n > most {
				t.Errorf("%q cut at %d takes %d", s, most, n)
			}
			if got == s {
				continue
			}
			_, size := utf8.DecodeRuneInString(s[len(kept):])
			if n := length(t, s[:len(kept)+size]); n <= most || !strings.HasSuffix(got, "…") {
				t.Errorf("%q cut at %d: %q, one rune more takes %d", s, most, got, n)
			}
		}
	}
}

// length returns how many bytes a text takes as JSON, without its quotes.
func length(t *testing.T, s string) int {
	t.Helper()
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return len(b) - 2
}
