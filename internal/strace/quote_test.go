package strace

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

func TestUnquote(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`abc`: "abc", `\0\1\377`: "\x00\x01\xff", `\0007`: "\x007", `\18`: "\x018", `\n\t\r\f\v`: "\n\t\r\f\v", `\"\\`: `"\`,
		`\x41\xfFg`: "A\xffg", `\x`: "x", `\x4`: "\x04", `\`: `\`, `\400`: "\x00",
	} {
		if got := Unquote(nil, []byte(in)); string(got) != want {
			t.Errorf("%s is %q, want %q", in, got, want)
		}
	}
	if got := Unquote([]byte("a"), []byte(`\n`)); string(got) != "a\n" {
		t.Errorf("appended to a: %q", got)
	}
}

func TestCutQuoted(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		text, s, rest string
		ok            bool
	}{
		{`"a", 1) = 1`, `a`, `, 1) = 1`, true},
		{`"", 0`, ``, `, 0`, true},
		{`"a\"b\\", c"`, `a\"b\\`, `, c"`, true},
		{`"a\", 1) = 1`, `a\", 1) = 1`, ``, false},
		{`"a\`, `a\`, ``, false},
		{`"`, ``, ``, false},
		{`a"`, ``, `a"`, false},
		{``, ``, ``, false},
	} {
		s, rest, ok := CutQuoted([]byte(tt.text))
		if string(s) != tt.s || string(rest) != tt.rest || ok != tt.ok {
			t.Errorf("%s: %q, %q, %v", tt.text, s, rest, ok)
		}
	}
}

// escape escapes a string as strace does.
func escape(data []byte) string {
	var b strings.Builder
	for i, c := range data {
		switch {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c >= ' ' && c <= '~':
			b.WriteByte(c)
		case c >= 9 && c <= 13:
			b.WriteByte('\\')
			b.WriteByte("tnvfr"[c-9])
		case i+1 < len(data) && data[i+1] >= '0' && data[i+1] <= '9':
			fmt.Fprintf(&b, `\%03o`, c)
		default:
			fmt.Fprintf(&b, `\%o`, c)
		}
	}
	return b.String()
}

func FuzzUnquote(f *testing.F) {
	f.Add([]byte("\x00\x01x\abadzone7\\\"\xff"))
	f.Add([]byte(`\x61\xfg\x`)) // hexadecimal, not quite, cut short
	f.Add([]byte(`\a\q\777\`))  // of C, unknown, more than a byte, cut short
	f.Fuzz(func(t *testing.T, data []byte) {
		s, rest, ok := CutQuoted([]byte(`"` + escape(data) + `"...`))
		if !ok || string(rest) != "..." {
			t.Errorf("%q: %q follows it, %v", data, rest, ok)
		}
		if got := Unquote(nil, s); !bytes.Equal(got, data) {
			t.Errorf("%q became %q", data, got)
		}
		Unquote(nil, data)
	})
}
