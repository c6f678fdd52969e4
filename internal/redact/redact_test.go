package redact

import (
	"bytes"
	"strings"
	"testing"
)

func must(t testing.TB, patterns ...string) *Patterns {
	t.Helper()
	p, wrong := Compile(patterns)
	if len(wrong) > 0 {
		t.Fatal(wrong)
	}
	return p
}

// none spares nothing.
func none([]byte) int { return 0 }

func TestText(t *testing.T) {
	p := must(t, `password=([^&"]*)`, `AKIA[0-9A-Z]{16}`, `(?i)(?:-p|--pass )(\S+)`)
	for in, want := range map[string]string{
		"":                                      "",
		"nothing to hide":                       "nothing to hide",
		`write(3, "user=a&password=hunter2&b")`: `write(3, "user=a&password=*******&b")`,
		"password=a&password=bc":                "password=*&password=**",
		"key AKIAABCDEFGHIJKLMNOP end":          "key ******************** end",
		"mysql -psecret -u x":                   "mysql -p****** -u x",
		"tool --PASS word":                      "tool --PASS ****",
		"password=":                             "password=",
		"password=\xff\xfe&":                    "password=**&",
	} {
		if got := p.Text(in); got != want {
			t.Errorf("Text(%q) = %q, want %q", in, got, want)
		}
	}
	if got := (*Patterns)(nil).Text("password=x"); got != "password=x" {
		t.Errorf("no patterns made %q", got)
	}
}

func TestCompile(t *testing.T) {
	if p, wrong := Compile(nil); p != nil || len(wrong) > 0 {
		t.Errorf("no patterns: %v, %v", p, wrong)
	}
	p, wrong := Compile([]string{"good", "ba(d", "x*"})
	if p != nil || len(wrong) != 2 || wrong[1] == nil || wrong[2] == nil {
		t.Errorf("wrong patterns: %v, %v", p, wrong)
	}
}

// However a stream is cut into pieces, its lines are masked alike. Of a line that is too long
// to hold, the rest is hidden.
func TestMasker(t *testing.T) {
	long := "password=" + strings.Repeat("x", maxLine) + "password=rest"
	in := "one password=abc\ntwo\n\n" + long + "\nafter password=d\nno end password=e"
	want := "one password=***\ntwo\n\npassword=" + strings.Repeat("*", len(long)-len("password=")) + "\nafter password=*\nno end password=*"
	for _, size := range []int{7, 4096, 65536, maxLine, len(in)} {
		var out bytes.Buffer
		m := must(t, `password=(\w*)`).Masker(out.Write, none)
		for rest := []byte(in); len(rest) > 0; {
			n := min(size, len(rest))
			if size == 7 && len(rest) > 200 && len(rest) < len(in)-100 {
				n = min(64<<10, len(rest)) // the middle in larger pieces
			}
			if taken, err := m.Write(rest[:n]); taken != n || err != nil {
				t.Fatal(taken, err)
			}
			rest = rest[n:]
		}
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		if out.String() != want {
			t.Errorf("in pieces of %d: something is not masked, or too much is", size)
		}
	}
}

// Masking changes neither the length of anything nor the line ends, and leaves no match of a
// literal.
func FuzzMasker(f *testing.F) {
	f.Add([]byte("a password=x\nb"), 3)
	f.Add([]byte("password=\npassword=yy"), 1)
	p, _ := Compile([]string{`password=([a-z]+)`, `token`})
	f.Fuzz(func(t *testing.T, in []byte, size int) {
		if size < 1 {
			size = 1
		}
		var out bytes.Buffer
		m := p.Masker(out.Write, none)
		for rest := in; len(rest) > 0; {
			n := min(size, len(rest))
			m.Write(rest[:n])
			rest = rest[n:]
		}
		m.Close()
		got := out.Bytes()
		if len(got) != len(in) {
			t.Fatalf("%d bytes became %d", len(in), len(got))
		}
		for i := range in {
			if got[i] != in[i] && (got[i] != '*' || in[i] == '\n') {
				t.Fatalf("byte %d became %q", i, got[i])
			}
		}
		if bytes.Contains(got, []byte("token")) {
			t.Fatalf("not masked: %q", got)
		}
	})
}

func BenchmarkMasker(b *testing.B) {
	line := []byte(`812 1700000000.123456 sendto(3<UDP:[127.0.0.1:42392->127.0.0.1:53]>, "\0\1\1\0\0\1\0\0\0\0\0\0\1x\7badzone\4test\0\0\1\0\1", 32, MSG_NOSIGNAL, NULL, 0) = 32 <0.000031>` + "\n")
	p := must(b, `password=([^&"]*)`, `AKIA[0-9A-Z]{16}`, `(?i)authorization: ([^"\\]*)`)
	m := p.Masker(func(b []byte) (int, error) { return len(b), nil }, none)
	b.SetBytes(int64(len(line)))
	for b.Loop() {
		m.Write(line)
	}
}
