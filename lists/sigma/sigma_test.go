package sigma

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"culprit/internal/pattern"
	"culprit/lists/format"
)

// rule writes a rule of Sigma with a detection.
func rule(detection string) string {
	return "title: Test\nlogsource: {category: dns_query, product: windows}\ndetection:\n  " + strings.ReplaceAll(strings.TrimSpace(detection), "\n", "\n  ") + "\n"
}

func one(t testing.TB, text string) Rule {
	t.Helper()
	rules, err := Read([]byte(text))
	if err != nil || len(rules) != 1 {
		t.Fatalf("%d rules, %v:\n%s", len(rules), err, text)
	}
	return rules[0]
}

// finds reports whether culprit finds a question about a name by what a rule became.
func finds(t testing.TB, r Rule, name string) (found bool) {
	t.Helper()
	lower := strings.ToLower(name)
	excepted := false
	_, err := format.Read(strings.NewReader(strings.Join(r.Entries, "\n")), format.Adblock, func(e format.Entry) error {
		below := strings.HasSuffix(lower, "."+e.Name)
		if e.Kind != format.Below && lower == e.Name || e.Kind != format.Self && below {
			found, excepted = found || !e.Except, excepted || e.Except
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, edns := range []bool{false, true} {
		m := new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeA)
		m.Id = 0x4141
		if edns {
			m.SetEdns0(1232, false)
		}
		packet, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range r.Patterns {
			var made pattern.Pattern
			if p.Key == "string" {
				made, err = pattern.String(p.Value)
			} else {
				made, err = pattern.Hex(p.Value)
			}
			if err != nil {
				t.Fatalf("%+v: %v", p, err)
			}
			found = found || made.Matches(packet)
		}
	}
	return found && !excepted
}

// What Sigma means is found, what it does not mean is not, and where they differ there is a note.
func TestMeaning(t *testing.T) {
	for detection, names := range map[string]struct{ yes, no, differ string }{
		"s: {QueryName: Evil.example}\ncondition: s":                                       {"evil.example EVIL.example", "x.evil.example evil.example.com", ""},
		"s: {QueryName: '*.evil.example'}\ncondition: s":                                   {"x.evil.example a.b.EVIL.example", "evil.example xevil.example", ""},
		"s: {QueryName: ['a.example', 'b.example.']}\ncondition: s":                        {"a.example b.example", "c.example x.a.example", ""},
		"s: {QueryName|endswith: .evil.example}\ncondition: s":                             {"x.evil.example", "evil.example", ""},
		"s: {QueryName|endswith: evil.example}\ncondition: s":                              {"evil.example x.evil.example", "evil.example.com", "xevil.example"},
		"s: {QueryName|endswith: .onion}\ncondition: s":                                    {"x.onion", "onion.example xonion", ""},
		"s: {query|contains: evil.example}\ncondition: s":                                  {"evil.example x.Evil.example", "evil", "xevil.example evil.example.com"},
		"s: {query|contains: .evil.example}\ncondition: s":                                 {"x.evil.example", "evil.example", "x.evil.example.com"},
		"s: {query|contains: badzone}\ncondition: s":                                       {"xBADzonex.example", "bad.zone.example", ""},
		"s: {query: '*badzone*'}\ncondition: s":                                            {"xbadzonex.example", "bad.example", ""},
		"s: {query|contains: .stage.123456.}\ncondition: s":                                {"x.stage.123456.example", "x.stage.1234567.example xstage.123456.example", "x.STAGE.123456.example"},
		"s: {query|contains: age.123456.}\ncondition: s":                                   {"stage.123456.example", "age.1234567.example", "AGE.123456.example"},
		"s: {query|startswith: aaa.stage.}\ncondition: s":                                  {"aaa.stage.example aaa.stage.x.example", "x.aaa.stage.example aaa.stagex.example", "AAA.stage.example"},
		"s: {dns.question.name|startswith: _ldap.}\ncondition: s":                          {"_ldap.x", "x._ldap.example _ldapx.example", ""},
		"a: {query: a.example}\nb: {query: b.example}\ncondition: a or b":                  {"a.example b.example", "c.example", ""},
		"sel_a: {query: a.example}\nsel_b: {query: b.example}\ncondition: 1 of sel_*":      {"a.example b.example", "c.example", ""},
		"a: {query: a.example}\nb: {query: b.example}\ncondition: 1 of them":               {"a.example b.example", "c.example", ""},
		"a: {query: a.example}\ncondition: all of them":                                    {"a.example", "c.example", ""},
		"a: {query: a.example}\nb: {query: b.example}\ncondition: [a, b]":                  {"a.example b.example", "c.example", ""},
		"a: [{query: a.example}, {query|endswith: .b.example}]\ncondition: a":              {"a.example x.b.example", "b.example", ""},
		"a: {query|endswith: .a.example}\nf: {query: x.a.example}\ncondition: a and not f": {"y.a.example y.x.a.example", "x.a.example", ""},
		"a: {query|endswith: .a.example}\nf_1: {query|endswith: .x.a.example}\nf_2: {query: z.a.example}\ncondition: a and not 1 of f_*": {
			"y.a.example x.a.example", "y.x.a.example z.a.example", "",
		},
		`s: {query: 'a\*.example'}` + "\ncondition: s": {"", "ax.example", ""}, // no name of a host
	} {
		r := one(t, rule(detection))
		if names.yes != "" && len(r.Missing) > 0 {
			t.Errorf("%s\nmissing: %v", detection, r.Missing)
		}
		for name := range strings.FieldsSeq(names.yes) {
			if !finds(t, r, name) {
				t.Errorf("%s\ndoes not find %s: %+v", detection, name, r)
			}
		}
		for name := range strings.FieldsSeq(names.no) {
			if finds(t, r, name) {
				t.Errorf("%s\nfinds %s: %+v", detection, name, r)
			}
		}
		for name := range strings.FieldsSeq(names.differ) {
			if finds(t, r, name) {
				t.Errorf("%s\nfinds %s: the note is wrong: %v", detection, name, r.Notes)
			}
		}
		if (len(r.Notes) > 0) != (names.differ != "") && !strings.Contains(detection, "startswith") {
			t.Errorf("%s\nnotes: %v", detection, r.Notes)
		}
	}
}

// What cannot be expressed is named, and nothing is made of it.
func TestMissing(t *testing.T) {
	for detection, want := range map[string]string{
		`s: {QueryName|re: 'a.*b'}` + "\ncondition: s":                              "s: QueryName|re: the modifier re",
		"s: {QueryName|expand: '%domains%'}\ncondition: s":                          "the modifier expand",
		"s: {QueryName|contains|all: [a, b]}\ncondition: s":                         "s: QueryName|contains|all: several things that one name must have",
		"s: {QueryName|contains|endswith: a}\ncondition: s":                         "two modifiers",
		"s: {QueryName: a.example, Image: x.exe}\ncondition: s":                     "s: asks for Image; culprit looks at the name in the question",
		"s: {QueryName|contains: a, QueryName|endswith: b.c}\ncondition: s":         "several things that one name must have",
		"s: {QueryName: 'a*b.example'}\ncondition: s":                               "has a wildcard inside",
		"s: {QueryName: 'a?.example'}\ncondition: s":                                "has a wildcard inside",
		"s: {QueryName: '*'}\ncondition: s":                                         "means nearly every name",
		"s: {QueryName|contains: '.'}\ncondition: s":                                "means nearly every name",
		"s: {QueryName|contains: '==.'}\ncondition: s":                              "is the end of a label",
		"s: {QueryName|contains: .evil}\ncondition: s":                              "is the begin of a label",
		"s: {QueryName|startswith: post.1}\ncondition: s":                           "is the begin of a label",
		"s: {QueryName|endswith: evil}\ncondition: s":                               "is the end of a label",
		"s: {QueryName: null}\ncondition: s":                                        "is no text",
		"s: {QueryName: []}\ncondition: s":                                          "no value",
		"s: {QueryName: 192.0.2.1}\ncondition: s":                                   "|192.0.2.1^: an address",
		"s: [evil, words]\ncondition: s":                                            "s: words anywhere in an event",
		"s: {}\ncondition: s":                                                       "s: is empty",
		"s: {QueryName: a.b}\ncondition: not s":                                     "condition: not, without something",
		"s: {QueryName: a.b}\nf: {Image: x}\ncondition: s and not f":                "condition: not, of what cannot be expressed exactly (f: asks for Image",
		"s: {QueryName: a.b}\nf: {QueryName|contains: a.b}\ncondition: s and not f": "condition: not, of what cannot be expressed exactly (f: QueryName|contains is taken as a domain",
		"s: {QueryName|contains: a}\nf: {QueryName: a.b}\ncondition: s and not f":   "a rule with string or hex has no exceptions",
		"a: {QueryName: a.b}\nb: {QueryName: c.d}\ncondition: a and b":              "condition: and, of several things",
		"a: {QueryName: a.b}\nb: {QueryName: c.d}\ncondition: all of them":          "condition: all of *, at once",
		"a: {QueryName: a.b}\ncondition: b":                                         "condition: there is no b",
		"a: {QueryName: a.b}\ncondition: 1 of b*":                                   "condition: there is no b*",
		"a: {QueryName: a.b}\ncondition: a | count() > 5":                           "how often something happens",
	} {
		r := one(t, rule(detection))
		if len(r.Entries)+len(r.Patterns) > 0 {
			t.Errorf("%s\nbecame %v %v", detection, r.Entries, r.Patterns)
		}
		if !strings.Contains(strings.Join(r.Missing, "\n"), want) {
			t.Errorf("%s\nmissing: %q, want %q", detection, r.Missing, want)
		}
	}
	// One part of an or is kept, the other one named.
	r := one(t, rule("a: {QueryName: a.b}\nb: {Image: x}\nc: {QueryName: c.d}\nf: {QueryName: x.c.d}\ncondition: a or b or (c and not f)"))
	if d := cmp.Diff([]string{"|a.b^"}, r.Entries); d != "" || len(r.Missing) != 2 {
		t.Errorf("entries (-want +got):\n%s\nmissing: %q", d, r.Missing)
	}
}

func TestRead(t *testing.T) {
	text := `title: "Katz"
id: 1b2c
status: experimental
description: of no use here
references: [https://a.example, https://b.example]
author: Somebody
level: high
logsource: {category: dns}
detection:
  selection:
    query|contains: [b.example, a.example, b.example]
  condition: selection
`
	want := Rule{
		Title: "Katz", ID: "1b2c", Status: "experimental", Level: "high", Author: "Somebody", References: []string{"https://a.example", "https://b.example"},
		Entries: []string{"||b.example^", "||a.example^"},
		Notes:   []string{"selection: query|contains is taken as a domain: x.b.example is found, xb.example and b.example.example are not; and so for 2 more"},
	}
	rules, err := Read([]byte(text + "---\n" + strings.Replace(text, "category: dns", "category: process_creation", 1)))
	if err != nil || len(rules) != 2 {
		t.Fatalf("%d rules, %v", len(rules), err)
	}
	if d := cmp.Diff(want, rules[0]); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if got := rules[1].Missing; !slices.Equal(got, []string{"it is about process_creation, not about DNS questions"}) || len(rules[1].Entries) > 0 {
		t.Errorf("another event: %+v", rules[1])
	}
	for text, want := range map[string]string{
		"":                          "no rule",
		"title: x":                  "no detection",
		"a: [":                      "yaml",
		"- 1":                       "not a rule of Sigma",
		rule("s: {QueryName: a.b}"): "no condition",
		rule("s: {QueryName: a.b}\ncondition: s and"):                                  "not a rule of Sigma that can be read",
		rule("s: x\ncondition: s"):                                                     "not a rule of Sigma that can be read",
		"title: x\ncorrelation: {type: event_count}":                                   "no detection",
		strings.Repeat("#", mostBytes+1):                                               "bytes",
		strings.Repeat(rule("s: {QueryName: a.b}\ncondition: s")+"---\n", mostRules+1): "rules",
	} {
		if _, err := Read([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: error %v, want %q", text, err, want)
		}
	}
}

// Whatever is read, what becomes of it is good for a list and for rules.
func FuzzRead(f *testing.F) {
	for _, detection := range []string{
		"s: {QueryName|endswith: [.evil.example, evil.example]}\ncondition: s",                         // a list
		"s: {query|contains: badzone}\ncondition: s",                                                   // a string
		"s: {query|startswith: aaa.stage.}\nf: {query: a.b}\ncondition: s and not 1 of f*",             // hex, and an exception
		"s: &x {QueryName: ['*a\\*b?', null, 7]}\nt: *x\ncondition: 1 of them or (s and not all of t)", // escapes, what is no text, an alias
		"s: [a, b]\ncondition: [s, s | count() > 1]",                                                   // keywords, an aggregation
	} {
		f.Add(rule(detection))
	}
	f.Fuzz(func(t *testing.T, text string) {
		rules, err := Read([]byte(text))
		if err != nil {
			return
		}
		for _, r := range rules {
			n := 0
			stats, err := format.Read(strings.NewReader(strings.Join(r.Entries, "\n")), format.Adblock, func(format.Entry) error { n++; return nil })
			if err != nil || stats.Rejects() > 0 || n != len(r.Entries) {
				t.Errorf("%v, %d entries of %q, rejected: %v", err, n, r.Entries, stats.Rejected)
			}
			for _, p := range r.Patterns {
				if p.Key == "hex" {
					_, err = pattern.Hex(p.Value)
				} else {
					_, err = pattern.String(p.Value)
				}
				if err != nil {
					t.Errorf("%+v: %v", p, err)
				}
			}
			if len(r.Entries)+len(r.Patterns)+len(r.Missing) == 0 {
				t.Error("nothing became of it, and nothing is said")
			}
			for _, s := range slices.Concat(r.Entries, r.Notes, r.Missing) {
				if strings.ContainsAny(s, "\n\r\x1b") {
					t.Errorf("not one line: %q", s)
				}
			}
		}
	})
}
