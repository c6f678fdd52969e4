package text

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestEscape(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"php cron.php":      "php cron.php",
		"a\x1b[2Jb\n":       `a\x1b[2Jb\n`,
		"naïve":             "naïve",
		"rtl\u202eexe":      `rtl\u202eexe`,
		"\xff\xfe":          `\xff\xfe`,
		`back\slash`:        `back\slash`,
		"\u2028line\u00a0x": `\u2028line\u00a0x`,
		"tab\tbell\a\x7f":   `tab\tbell\a\x7f`,
	} {
		if got := Escape(in); got != want {
			t.Errorf("Escape(%q) = %s, want %s", in, got, want)
		}
	}
}

// The output is the same document, without anything that a terminal obeys.
func FuzzJSONWriter(f *testing.F) {
	f.Add("a\u202eb\x7f\u009b \U000e0001 naïve")
	f.Add("plain")
	f.Add("broken \xff\xe2\x80, a noncharacter \uffff")
	f.Fuzz(func(t *testing.T, s string) {
		var b bytes.Buffer
		if err := json.NewEncoder(JSONWriter(&b)).Encode(s); err != nil {
			t.Fatal(err)
		}
		if strings.ContainsFunc(strings.TrimSuffix(b.String(), "\n"), func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%q is printed as %q", s, b.String())
		}
		var got string
		if err := json.Unmarshal(b.Bytes(), &got); err != nil || got != strings.ToValidUTF8(s, "\ufffd") && utf8.ValidString(s) {
			t.Errorf("%q became %q (%v)", s, got, err)
		}
	})
}

func FuzzEscape(f *testing.F) {
	f.Add("a\x1b[0m\n\u202e\\")
	f.Add("plain")
	f.Add("broken \xff\xe2\x80, a noncharacter \uffff")
	f.Fuzz(func(t *testing.T, s string) {
		got := Escape(s)
		if strings.ContainsAny(got, "\x1b\n\r\t\x00\u202e") || len(got) < len(s) {
			t.Errorf("Escape(%q) = %q", s, got)
		}
	})
}

func TestQuote(t *testing.T) {
	t.Parallel()
	got := Quote([]string{"iptables", "-p", "udp", "a b", "it's", "", "|04|", "x\x1by'"})
	want := `iptables -p udp 'a b' 'it'\''s' '' '|04|' $'x\x1by\''`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// A shell splits the quoted words as before.
func TestQuoteForShell(t *testing.T) {
	t.Parallel()
	words := []string{"plain-1.2_3", "", "a b", "|0a|", "it's", `back\slash`, "$HOME", "*", "~", "#c", "new\nline", "ä", "\x1b'\\", "\xff"}
	out, err := exec.Command("bash", "-c", "printf '%s\\0' "+Quote(words)).Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00"); !slices.Equal(got, words) {
		t.Errorf("got  %q\nwant %q", got, words)
	}
}

func TestFileName(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"php8.2":                "php8.2",
		"../../etc":             "_.._etc",
		"(sd-pam)":              "_sd-pam_",
		strings.Repeat("x", 50): strings.Repeat("x", 32),
	} {
		if got := FileName(in); got != want {
			t.Errorf("FileName(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestSizePlural(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1<<20 - 1: "1.0 MiB", 5 << 30: "5.0 GiB"} {
		if got := Size(n); got != want {
			t.Errorf("Size(%d) = %s, want %s", n, got, want)
		}
	}
	if got := Plural(1, "trace") + Plural(2, "process") + Plural(0, "hit"); got != "1 trace2 processes0 hits" {
		t.Error(got)
	}
}

func TestClip(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		in   string
		most int
		want string
	}{{"abc", 3, "abc"}, {"abcd", 3, "ab…"}, {"äöü", 3, "äöü"}, {"äöüß", 3, "äö…"}, {"ab", 1, "…"}, {"ab", 0, ""}, {"", 0, ""}} {
		if got := Clip(tt.in, tt.most); got != tt.want {
			t.Errorf("%q in %d: %q, want %q", tt.in, tt.most, got, tt.want)
		}
	}
}
