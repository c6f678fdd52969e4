package dnsname

import (
	"strings"
	"testing"
)

func TestASCII(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", MaxLabel)
	for _, tt := range []struct{ name, in, want, err string }{
		{"as it is", "evil.example", "evil.example", ""},
		{"case and final dot", "Evil.EXAMPLE.", "evil.example", ""},
		{"underscore", "_dmarc.x", "_dmarc.x", ""},
		{"another script", "Bücher.test", "xn--bcher-kva.test", ""},
		{"another script's dots", "bücher。test。", "xn--bcher-kva.test", ""},
		{"converted already", "XN--bcher-KVA.test", "xn--bcher-kva.test", ""},
		{"one that IDNA would not make", "xn--zzzzzz.test", "xn--zzzzzz.test", ""},
		{"longest label", long + ".test", long + ".test", ""},
		{"longest name", strings.Repeat(long+".", 3) + long[:61], strings.Repeat(long+".", 3) + long[:61], ""},
		{"one byte more", strings.Repeat(long+".", 3) + long[:62], "", "255"},
		{"long label", long + "x.test", "", "1 to 63"},
		{"label that gets long", strings.Repeat("ü", 60) + ".test", "", "63"},
		{"long in another script", strings.Repeat("ü", 254), "", "253"},
		{"empty", "", "", "empty"},
		{"root", ".", "", "empty"},
		{"empty label", "a..b", "", "1 to 63"},
		{"leading dot", ".a", "", "1 to 63"},
		{"two final dots", "a..", "", "1 to 63"},
		{"not UTF-8", "\xff.test", "", "not a domain name"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ASCII(tt.in)
			if got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("ASCII(%q) = %q, %v", tt.in, got, err)
			}
		})
	}
}

func FuzzASCII(f *testing.F) {
	f.Add("evil.example")           // nothing to do
	f.Add("Bücher.test.")           // IDNA
	f.Add("xn--\xffa.test")         // half converted, not UTF-8
	f.Add(strings.Repeat("ß.", 99)) // longer when converted
	f.Fuzz(func(t *testing.T, name string) {
		got, err := ASCII(name)
		if err != nil {
			return
		}
		if again, err := ASCII(got); err != nil || again != got || len(got) > MaxName || !isASCII(got) {
			t.Errorf("ASCII(%q) = %q, and of that %q, %v", name, got, again, err)
		}
	})
}

func TestNoGarbage(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() { _, _ = ASCII("www.evil.example") }); n != 0 {
		t.Errorf("%v allocations for a name with nothing to change", n)
	}
}
