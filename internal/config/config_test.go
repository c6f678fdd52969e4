package config

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.yaml.in/yaml/v3"
)

const example = "../../config.example.yaml"

// The example shows every key with its default, as it promises.
func TestExampleHoldsTheDefaults(t *testing.T) {
	t.Parallel()
	got, err := Load(example)
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Path = got.Path
	want.Rules = []Rule{{Name: "badzone", String: "BADZONE"}}
	fillRule(&want.Rules[0])
	want.Guard.ProcessScopeUsers[0].Name = "root"
	if d := cmp.Diff(&want, got, cmpopts.EquateEmpty()); d != "" {
		t.Error(d)
	}
}

func TestExampleNamesEveryKey(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	for _, section := range append(Keys(""), "capture.levels") {
		for _, key := range append(Keys(section), section[strings.LastIndex(section, ".")+1:]) {
			if !strings.Contains(string(text), key+":") {
				t.Errorf("key %q of section %q is missing", key, section)
			}
		}
	}
}

// culprit takes the configuration in the manifest for Kubernetes.
func TestManifest(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../packaging/kubernetes/daemonset.yaml")
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for doc := range strings.SplitSeq(string(text), "\n---\n") {
		var m struct{ Data map[string]string }
		if err := yaml.Unmarshal([]byte(doc), &m); err != nil {
			t.Fatal(err)
		}
		for name, config := range m.Data {
			found = true
			if _, err := Parse(name, []byte(config)); err != nil {
				t.Error(err)
			}
		}
	}
	if !found {
		t.Error("the manifest has no configuration")
	}
}

// A list of one value need not be written as a list.
func TestOneValue(t *testing.T) {
	t.Parallel()
	one, err := Parse("f", []byte("rules: [{name: a, string: b, protocols: udp, ports: 53, to: 192.0.2.0/24}]\nlookback: {users: all}\nguard: {never_users: 0, never_executables: /bin/sh}"))
	if err != nil {
		t.Fatal(err)
	}
	list, err := Parse("f", []byte("rules: [{name: a, string: b, protocols: [udp], ports: [53], to: [192.0.2.0/24]}]\nlookback: {users: [all]}\nguard: {never_users: [0], never_executables: [/bin/sh]}"))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(list, one); d != "" {
		t.Error(d)
	}
}

func TestLevelsInherit(t *testing.T) {
	t.Parallel()
	c, err := Parse("f", []byte("rules: [{name: a, string: b}]\ncapture: {levels: [{processes: 7}, {hits: 4, window: 1h}]}"))
	if err != nil {
		t.Fatal(err)
	}
	want := []Level{
		{Hits: 1, Processes: 7, Window: 30 * time.Second, Strings: 512},
		{Hits: 4, Processes: 7, Window: time.Hour, Strings: 512},
	}
	if d := cmp.Diff(want, c.Capture.Levels); d != "" {
		t.Error(d)
	}
}

// mistakes are configurations that are refused, and their errors.
var mistakes = []struct{ name, text, want string }{
	{"empty", "", "f: rules: no rule"},
	{"not yaml", "rules: [", "f: not YAML: "},
	{"not a map", "- a", "f: not YAML: "},
	{"duplicate key", "log: {level: info}\nlog: {level: info}", "already defined"},
	{"no unit", "rules: [{name: a, string: b}]\ncapture:\n  linger: 90", "f:3: capture.linger: 90 is not a duration: write a number and its unit"},
	{"evidence", "rules: [{name: a, string: b}]\nevidence:\n  dir: here\n  keep: 4000d\n  max_bytes: 1KiB\n  min_free: 1025TiB", "f:3: evidence.dir: \"here\" is not an absolute path\nf:4: evidence.keep: 96000h0m0s is out of range; allowed: 1s to 3650d\nf:5: evidence.max_bytes: 1KiB is out of range; allowed: 64KiB to 1024TiB\nf:6: evidence.min_free: 1025TiB is out of range; allowed: 0B to 1024TiB"},
	{"evidence of other types", "rules: [{name: a, string: b}]\nevidence: {keep: 30, max_bytes: 5, compress: sometimes}", "f:2: evidence.compress: must be true or false, not the text \"sometimes\""},
	{"days", "rules: [{name: a, string: b}]\nevidence: {keep: 1.5d}", "f:2: evidence.keep: \"1.5d\" is not a duration: write a number and its unit (ms, s, m, h, d)"},
	{"size without unit", "rules: [{name: a, string: b}]\ncapture:\n  trace_bytes: 90", "f:3: capture.trace_bytes: 90 is not a size"},
	{"wrong type", "rules: [{name: a, string: 5}]\nnflog: {group: many}", "f:1: rules[0].string: must be a text (in quotes), not 5\nf:2: nflog.group: must be a whole number, not the text \"many\""},
	{"misspelt", "rules:\n  - name: a\n    string: b\n    port: [53]\ncaptures: {x: 1}", `f:4: rules[0].port: unknown key, did you mean "ports"?; allowed here: name, string, hex, domain, list, format, except, protocols, ports, to, families` + "\n" + `f:5: captures: unknown key, did you mean "capture"?; allowed here: rules,`},
	{"unknown keys beside other mistakes", "rules: [{name: a, string: b, to: {x: 1}}]\ncapture: {levels: [{window: 90, windows: 1m}], speed: fast, trace_bytes: 5}", `capture.speed: unknown key; allowed`},
	{"unknown keys in lists beside other mistakes", "rules: [{name: a, string: b}]\ncapture: {levels: [{window: 90, windows: 1m}], speed: fast, trace_bytes: 5}", `capture.levels[0].windows: unknown key, did you mean "window"?`},
	{"no list", "rules: [{name: a b, string: b, hex: c}]\nguard: {never_executables: 5}", "f:1: rules[0].name: \"a b\" is not a rule name; allowed: a letter or digit, then up to 47 letters, digits, dots, - and _\nf:1: rules[0]: has 2 of string, hex, domain and list; give exactly one\nf:2: guard.never_executables: must be a list ([a, b])"},
	{"two patterns", "rules: [{name: a, string: b, hex: c}]", "f:1: rules[0]: has 2 of string, hex, domain and list; give exactly one"},
	{"lists of names", "rules: [{name: a, list: [x, '/y[']}, {name: b, list: /y, except: [], format: xml}, {name: c, string: b, format: auto, except: /y}]", "f:1: rules[0].list[0]: \"x\" is not an absolute path; * matches within one directory, as in /etc/culprit/lists/*.txt\nf:1: rules[0].list[1]: \"/y[\" is not a path pattern: syntax error in pattern\nf:1: rules[1].except: is empty; name at least one file\nf:1: rules[1].format: \"xml\" is not known; allowed: auto, domains, hosts, rpz, adblock, dnsmasq, csv, stix, misp\nf:1: rules[2].format: is for rules with a list\nf:1: rules[2].except: is for rules with a list"},
	{"list of another type", "rules: [{name: a, list: 5}]", "f:1: rules[0].list: must be a list ([a, b])"},
	{"list beside a string", "rules: [{name: a, list: /x, string: b}]", "f:1: rules[0]: has 2 of string, hex, domain and list; give exactly one"},
	{"sources", "rules: [{name: a, string: b}]\nlists: {user: root, ca: x, sources: [{url: 'http://a/b', file: /a}, {url: 'https://a/b', file: /a, sha256: ff, format: xml}]}", "lists.user: root must not talk to the network: name another user, such as nobody\nf:2: lists.ca: \"x\" is not an absolute path\nf:2: lists.sources[0].url: \"http://a/b\" is not an address that begins with https://\nf:2: lists.sources[1].format: \"xml\" is not known"},
	{"one file twice", "rules: [{name: a, string: b}]\nlists: {sources: [{url: 'https://a/b', file: /a}, {url: 'https://a/c', file: /a}]}", "f:2: lists.sources[1].file: \"/a\" is already the file of lists.sources[0]"},
	{"bad hex", "rules: [{name: a, hex: '|4|'}]", `f:1: rules[0].hex: "4" between bars`},
	{"names", "rules: [{name: a b, string: b}, {name: c, string: b}, {name: c, string: b}]", "f:1: rules[0].name: \"a b\" is not a rule name; allowed: a letter or digit, then up to 47 letters, digits, dots, - and _\nf:1: rules[2].name: \"c\" is already the name of rules[1]"},
	{"lists", "rules: [{name: a, string: b, protocols: [sctp], ports: [0], families: [ipx], to: [x]}]", "rules[0].protocols[0]: \"sctp\" is not known; allowed: udp, tcp\n"},
	{"to of another family", "rules: [{name: a, string: b, families: [ipv6], to: [192.0.2.1]}]", `rules[0].to[0]: "192.0.2.1" is ipv4, but the rule's families are ipv6`},
	{"no such user", "rules: [{name: a, string: b}]\nguard: {never_users: [nobody, no-such-user]}", `f:2: guard.never_users[1]: no user "no-such-user" in /etc/passwd`},
	{"chain", "rules: [{name: a, string: b}]\nfirewall: {chain: OUTPUT, table: nat}", "f:2: firewall.table: \"nat\" is not known; allowed: raw, mangle, filter\nf:2: firewall.chain: \"OUTPUT\" is a name of iptables itself"},
	{"events", "rules: [{name: a, string: b}]\nevents: {file: here, journald: true, command: [cat]}", "f:2: events.file: \"here\" is not an absolute path\nf:2: events.command[0]: \"cat\" is not an absolute path\nf:2: events: has 3 of file, journald, command and otlp; give one at most"},
	{"redact", "rules: [{name: a, string: b}]\ncapture: {redact: [good, 'x*', 'ba(d']}", "f:2: capture.redact[1]: \"x*\" is not a pattern of secrets: it matches even where there is nothing\nf:2: capture.redact[2]: \"ba(d\" is not a pattern of secrets: error parsing regexp: missing closing )"},
	{"levels of nothing", "rules: [{name: a, string: b}]\ncapture: {levels: [{hits: 0}, {Hits: 2, Processes: 0, window: 0s, strings: 0}]}", "f:2: capture.levels[0].hits: is 0, but the first level starts at the first hit; allowed: 1\nf:2: capture.levels[1].processes: 0 is out of range; allowed: 1 to 100000\nf:2: capture.levels[1].window: 0s is out of range; allowed: 1s to 24h0m0s\nf:2: capture.levels[1].strings: 0 is out of range"},
	{"levels", "rules: [{name: a, string: b}]\ncapture: {levels: [{hits: 2}, {hits: 2, processes: -1, window: 1ms, strings: 1}]}", "f:2: capture.levels[0].hits: is 2, but the first level starts at the first hit; allowed: 1\nf:2: capture.levels[1].hits: is 2, but each level needs more hits than the one before it (2)\nf:2: capture.levels[1].processes: -1 is out of range; allowed: 1 to 100000\nf:2: capture.levels[1].window: 1ms is out of range; allowed: 1s to 24h0m0s\nf:2: capture.levels[1].strings: 1 is out of range"},
}

// One error names every mistake, with its line and key.
func TestAllMistakesAtOnce(t *testing.T) {
	t.Parallel()
	for _, tt := range mistakes {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse("f", []byte(tt.text))
			var ce *Error
			if !errors.As(err, &ce) {
				t.Fatalf("got %v, want a *config.Error", err)
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got:\n%s\nwant it to hold:\n%s", err, tt.want)
			}
		})
	}
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	c, err := Parse("f", []byte("rules: [{name: a, string: bad.zone}]"))
	if err != nil {
		t.Fatal(err)
	}
	if w := c.Warnings(); len(w) != 1 || !strings.Contains(w[0], "domain: bad.zone") {
		t.Errorf("warnings %q", w)
	}
}

func TestEvidence(t *testing.T) {
	t.Parallel()
	c, err := Parse("f", []byte("rules: [{name: a, string: b}]\nevidence: {keep: 7d, max_bytes: 1.5GiB, min_free: 0B, compress: false, keep_executables: 8MiB}"))
	if err != nil {
		t.Fatal(err)
	}
	want := Evidence{Dir: "/var/lib/culprit", Keep: 7 * 24 * time.Hour, MaxBytes: 3 << 29, KeepExecutables: 8 << 20}
	if c.Evidence != want {
		t.Errorf("got %+v, want %+v", c.Evidence, want)
	}
}

func TestBytes(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"64MiB": "64MiB", "1.5 GiB": "1536MiB", "10B": "10B", "0B": "0B"} {
		b, err := ParseBytes(in)
		if err != nil || b.String() != want {
			t.Errorf("%q became %s (%v), want %s", in, b, err, want)
		}
	}
	for _, in := range []string{"", "64", "MiB", "-1MiB", "5MB", "9999999TiB", "1e400GiB", "NaNGiB"} {
		if b, err := ParseBytes(in); err == nil {
			t.Errorf("%q became %s, want an error", in, b)
		}
	}
}

func FuzzParse(f *testing.F) {
	text, err := os.ReadFile(example)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte("rules: [{name: a, string: 5, to: [::/0]}]\ncapture: {levels: [{}]}"))
	for _, m := range mistakes {
		f.Add([]byte(m.text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if c, err := Parse("f", text); (c == nil) == (err == nil) {
			t.Errorf("config %v with error %v", c, err)
		}
	})
}

// A running daemon can change much of its configuration, but not all.
func TestNeedsRestart(t *testing.T) {
	t.Parallel()
	const rule = "rules: [{name: a, string: b}]\n"
	inForce, err := Parse("f", []byte(rule))
	if err != nil {
		t.Fatal(err)
	}
	for yaml, want := range map[string]string{
		"": "",
		"capture: {scope: process, levels: [{hits: 1, processes: 1}], concurrent: 5}\nguard: {never_users: [nobody]}\nevidence: {keep: 1d}\nlog: {level: debug}":             "",
		"firewall: {table: mangle}\nnflog: {rate: 5}\ncapture: {gate: off, gate_deadline: 1s}\nevidence: {dir: /e}\nmetrics: {listen: \"127.0.0.1:1\"}\nlog: {format: json}": "capture.gate capture.gate_deadline evidence.dir firewall log.format metrics nflog",
	} {
		c, err := Parse("f", []byte(rule+yaml))
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(c.NeedsRestart(inForce), " "); got != want {
			t.Errorf("%s: %q, want %q", yaml, got, want)
		}
	}
}
