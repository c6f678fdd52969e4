package pattern

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestArgs(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		make func(string) (Pattern, error)
		in   string
		want []string
	}{
		{"string", String, "BADZONE", []string{"--string", "BADZONE", "--icase"}},
		{"string that looks like an option", String, "--log", []string{"--hex-string", "|2d2d6c6f67|", "--icase"}},
		{"string with a quote and a bar", String, `a"|`, []string{"--hex-string", "|61227c|", "--icase"}},
		{"hex", Hex, "|04|evil|00|", []string{"--hex-string", "|046576696c00|"}},
		{"hex with spaces and a literal bar", Hex, `|0a 0B|\|x`, []string{"--hex-string", "|0a0b7c78|"}},
		{"hex that is all text", Hex, "evil", []string{"--string", "evil"}},
		{"domain", Domain, "Evil.Example.", []string{"--hex-string", "|046576696c076578616d706c6500|", "--icase"}},
		{"domain with an underscore", Domain, "_x.y", []string{"--hex-string", "|025f78017900|", "--icase"}},
		{"domain in another script", Domain, "bücher.test", []string{"--hex-string", "|0d786e2d2d62636865722d6b7661047465737400|", "--icase"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := tt.make(tt.in)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, p.Args()); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		make func(string) (Pattern, error)
		in   string
		want string
	}{
		{"empty string", String, "", "every packet"},
		{"long string", String, strings.Repeat("x", 129), "1 to 128"},
		{"empty hex", Hex, "||", "every packet"},
		{"open bar", Hex, "|04", "not closed"},
		{"half a byte", Hex, "|4|", "two digits"},
		{"no hex", Hex, "|zz|", "two digits"},
		{"empty domain", Domain, ".", "empty"},
		{"empty label", Domain, "a..b", "1 to 63"},
		{"long label", Domain, strings.Repeat("x", 64) + ".test", "63"},
		{"long name", Domain, strings.Repeat("abcdefg.", 32) + "test", "255"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := tt.make(tt.in)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestContains(t *testing.T) {
	t.Parallel()
	p, err := Domain("badzone.test")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{
		"badzone.test":      true,
		"BadZone.TEST.":     true,
		"x.badzone.test":    true,
		"notbadzone.test":   false,
		"badzone.test.org":  false,
		"zone.test":         false,
		"":                  false,
		"x.notbadzone.test": false,
	} {
		if got := p.Contains(name); got != want {
			t.Errorf("Contains(%q) = %v, want %v", name, got, want)
		}
	}
	s, _ := String("badzone.test")
	if s.Contains("badzone.test") || s.IsDomain() {
		t.Error("a string pattern must not pass for a domain")
	}
}

func TestLongDomainKeepsTheEnd(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("abcdefg.", 24) + "test"
	p, err := Domain(long)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Bytes()) != MaxLen || !strings.HasSuffix(string(p.Bytes()), "\x04test\x00") {
		t.Errorf("pattern %q of %d bytes", p.Bytes(), len(p.Bytes()))
	}
	if !p.Contains("x." + long) {
		t.Error("the whole name must still be decided on")
	}
}

// Matches finds what the kernel's search finds.
func TestMatches(t *testing.T) {
	t.Parallel()
	text, err1 := String("BadZone")
	bytes, err2 := Hex("|04|Evil")
	domain, err3 := Domain("Evil.example")
	if err1 != nil || err2 != nil || err3 != nil {
		t.Fatal(err1, err2, err3)
	}
	for _, tt := range []struct {
		p    Pattern
		in   string
		want bool
	}{
		{text, "x.bADZONE.test", true},
		{text, "badzon", false},
		{text, "", false},
		{bytes, "\x04Evil\x07example\x00", true},
		{bytes, "\x04evil\x07example\x00", false},
		{domain, "\x01x\x04eVIL\x07EXAMPLE\x00\x00\x01", true},
		{domain, "\x05xevil\x07example\x00", false},
	} {
		if got := tt.p.Matches([]byte(tt.in)); got != tt.want {
			t.Errorf("%q in %q: %v", tt.p.Bytes(), tt.in, got)
		}
	}
}
