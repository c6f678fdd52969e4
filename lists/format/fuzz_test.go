package format

import (
	"strings"
	"testing"

	"culprit/internal/dnsname"
)

// check reads a hostile list: whatever it is, entries are names, lines are in the list, and what is kept is bounded.
func check(t *testing.T, f Format, list string) {
	last := 0
	stats, err := Read(strings.NewReader(list), f, func(e Entry) error {
		if ascii, err := dnsname.ASCII(e.Name); err != nil || ascii != e.Name || strings.ContainsAny(e.Name, "*/ \\:") {
			t.Errorf("entry %+v: %q, %v", e, ascii, err)
		}
		if e.Line < last || e.Line > strings.Count(list, "\n")+1 {
			t.Errorf("entry %+v behind one of line %d", e, last)
		}
		if len(e.Comment) > maxComment {
			t.Errorf("a comment of %d bytes", len(e.Comment))
		}
		last = e.Line
		return nil
	})
	if len(stats.First) > maxFirst || f != Auto && stats.Format != f || f == Auto && err == nil && stats.Format == Auto {
		t.Errorf("%+v, %v", stats, err)
	}
	if stats.Lines > strings.Count(list, "\n")+1 && !strings.HasPrefix(list, "\x1f\x8b") && !strings.HasPrefix(list, "\x28\xb5\x2f\xfd") {
		t.Errorf("%d lines", stats.Lines)
	}
}

func FuzzDomains(f *testing.F) {
	f.Add("evil.example # C2\n*.b.example\n=c.example\n") // comments and kinds
	f.Add("\ufeffb\u00fccher.example\r\n.\n*.\n=\n#")     // mark, IDNA, nearly empty names
	f.Fuzz(func(t *testing.T, list string) { check(t, Domains, list) })
}

func FuzzHosts(f *testing.F) {
	f.Add("0.0.0.0 a.example\tb.example # two\n::1 localhost\n") // several names, local ones
	f.Add("fe80::1%lo0 a.example\n1.2.3.4\n%")                   // zones, addresses alone
	f.Fuzz(func(t *testing.T, list string) { check(t, Hosts, list) })
}

func FuzzRPZ(f *testing.F) {
	f.Add("$ORIGIN rpz.\n@ SOA a. b. (\n1 2 3 4 5)\nevil.example CNAME . ; C2\n*.evil.example CNAME .\n") // origin, parentheses, both kinds
	f.Add("a\\098c TXT \"(\" ; x\n AAAA ::1\n)\n(")                                                       // escapes, quotes, the owner before, what does not end
	f.Add("@ SOA a. b. 1 2 3 4 5\n@ CNAME .\n* CNAME .\nx CNAME @\n")                                     // about the apex
	f.Fuzz(func(t *testing.T, list string) { check(t, RPZ, list) })
}

func FuzzAdblock(f *testing.F) {
	f.Add("||a.example^$important\n@@||b.example^\n|c.example^|\nd.example\n") // what can be expressed
	f.Add("x##.y\n/r$/\n||a*^\n$\n@@\n|\n^\n0.0.0.0 x.y\n")                    // what cannot, and nearly empty rules
	f.Fuzz(func(t *testing.T, list string) { check(t, Adblock, list) })
}

func FuzzDnsmasq(f *testing.F) {
	f.Add("address=/a.example/b.example/#\nserver=/c.example/\nlocal=/d.example/\n") // several names
	f.Add("server=/x/#\naddress=/\naddress=//\naddress=/#/\n=\n")                    // exceptions, too few bars
	f.Fuzz(func(t *testing.T, list string) { check(t, Dnsmasq, list) })
}

func FuzzCSV(f *testing.F) {
	f.Add("id,domain,comment\n1,a.example,\"x\ny\"\n")            // a field of two lines
	f.Add("# \"ioc_value\",\"ioc_type\"\n \"a.b\", \"domain\"\n") // headings in a comment
	f.Add("1;a.example\n\"\n\"\"\";\n")                           // no headings, quotation marks
	f.Fuzz(func(t *testing.T, list string) { check(t, CSV, list) })
}

func FuzzSTIX(f *testing.F) {
	f.Add("{\"objects\": [\n{\"type\": \"indicator\", \"pattern\": \"[domain-name:value IN ('a.b', 'c.d') OR x:y = 1]\"}]}") // patterns
	f.Add("{\"objects\": [{\"type\": \"domain-name\", \"value\": \"a.b\"}, 1, [], {\"objects\": [")                          // what is no object
	f.Fuzz(func(t *testing.T, list string) { check(t, STIX, list) })
}

func FuzzMISP(f *testing.F) {
	f.Add("{\"Event\": {\"Attribute\": [\n{\"type\": \"domain|ip\", \"value\": \"a.b|1.2.3.4\", \"to_ids\": true}]}}") // values of two parts
	f.Add("[\"Attribute\", [{}, null]]")                                                                               // the key as a value
	f.Fuzz(func(t *testing.T, list string) { check(t, MISP, list) })
}

func FuzzPattern(f *testing.F) {
	f.Add("[domain-name:value = 'a.b'] OR [domain-name:value LIKE '%.c.d']") // what is understood
	f.Add("[domain-name:value='a\\'b' AND x:y NOT IN (1)] WITHIN 5 SECONDS") // escapes, what is not
	f.Fuzz(func(t *testing.T, text string) {
		if names, reason := pattern(text); reason != "" && names != nil {
			t.Errorf("%v, but %s", names, reason)
		}
	})
}

func FuzzAuto(f *testing.F) {
	for _, format := range All() {
		f.Add(sample(format, 2)) // each format
	}
	f.Add("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03") // gzip that ends
	f.Add("\x28\xb5\x2f\xfd\x04\x00\x01\x00\x00")     // zstd that ends
	f.Fuzz(func(t *testing.T, list string) { check(t, Auto, list) })
}
