package sets

import (
	"bytes"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"aead.dev/minisign"
	"github.com/google/go-cmp/cmp"

	"culprit/internal/config"
)

var (
	noon = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	all  = Accept{Rules: true, Lists: true}
)

// newKey makes a pair of keys.
func newKey(t testing.TB) (minisign.PrivateKey, minisign.PublicKey) {
	t.Helper()
	public, private, err := minisign.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return private, public
}

// newSet makes a version of the set "a" with one rule.
func newSet(version uint64) *Set {
	return &Set{
		Format: Format, Fleet: "f", Name: "a", Version: version, Created: noon,
		Rules: []config.Rule{{Name: "badzone", String: "BADZONE"}},
	}
}

func sign(t testing.TB, s *Set, key minisign.PrivateKey) Signed {
	t.Helper()
	signed, err := Sign(s, key)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// A set comes back as it was signed, through its value in the bucket.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	key, public := newKey(t)
	want := newSet(3)
	want.Hosts, want.Expires = []string{"web*", "db1.example"}, noon.Add(time.Hour)
	want.Lists = []List{{Name: "feed.txt", SHA256: strings.Repeat("a0", 32), Size: 10}}
	want.Rules = append(want.Rules, config.Rule{Name: "feed", List: config.Paths{"fleet:feed.txt"}, Ports: []int{53, 5353}})
	value, err := sign(t, want, key).Value()
	if err != nil {
		t.Fatal(err)
	}
	signed, err := ReadValue(value)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Trust{Fleet: "f", Host: "h", Keys: []minisign.PublicKey{public}}.Verify("a", signed)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	rules := got.placed("/lists")
	if path := rules[1].List[0]; path != "/lists/"+strings.Repeat("a0", 32)+"/feed.txt" {
		t.Errorf("the list of the rule is at %s", path)
	}
	if rules[0].Set != (config.RuleSet{Name: "a", Version: 3}) || rules[0].Ports[0] != 53 {
		t.Errorf("the rule is %+v", rules[0])
	}
}

// Whoever has the broker can put anything into the bucket: nothing that the owner of a key has not signed for this place is believed.
func TestVerifyRefuses(t *testing.T) {
	t.Parallel()
	key, public := newKey(t)
	other, _ := newKey(t)
	trust := Trust{Fleet: "f", Host: "h", Keys: []minisign.PublicKey{public}}
	good := sign(t, newSet(1), key)
	changed := good
	changed.Set = bytes.Replace(good.Set, []byte("BADZONE"), []byte("BADZONF"), 1)
	// What is signed, but as something else, or in another form.
	signedText := func(doc string) Signed {
		return Signed{Set: []byte(doc), Signature: string(minisign.Sign(key, []byte(doc)))}
	}
	unchecked := func(change func(*Set)) Signed {
		s := newSet(1)
		change(s)
		doc, err := s.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return signedText(string(doc))
	}
	for name, tc := range map[string]struct {
		as   string
		s    Signed
		want Code
		says string
	}{
		"unsigned":                        {"a", Signed{Set: good.Set}, CodeForged, "no signature"},
		"changed":                         {"a", changed, CodeForged, "it was changed"},
		"another key":                     {"a", sign(t, newSet(1), other), CodeForged, "not one of fleet.keys"},
		"another set's signature":         {"a", Signed{good.Set, sign(t, newSet(2), key).Signature}, CodeForged, "it was changed"},
		"another fleet":                   {"a", unchecked(func(s *Set) { s.Fleet = "g" }), CodeFleet, `the fleet "g"`},
		"another name":                    {"b", good, CodeName, `signed as "a"`},
		"no set":                          {"a", signedText("hello"), CodeFormat, "no JSON"},
		"something else that was signed":  {"a", signedText(`{"name":"a","version":7}`), CodeFormat, "format is"},
		"a later format":                  {"a", signedText(`{"format":"culprit-set-2"}`), CodeFormat, "culprit-set-2"},
		"a key that is not known":         {"a", signedText(`{"format":"culprit-set-1","users":["root"]}`), CodeFormat, "unknown field"},
		"a key of a rule that is unknown": {"a", signedText(`{"format":"culprit-set-1","rules":[{"name":"a","capture":{}}]}`), CodeFormat, "unknown field"},
		"a key twice":                     {"a", signedText(strings.Replace(string(good.Set), `"name": "a"`, `"name": "b", "name": "a"`, 1)), CodeFormat, "not written as"},
		"a key in capitals":               {"a", signedText(strings.Replace(string(good.Set), `"version"`, `"Version"`, 1)), CodeFormat, "not written as"},
		"two documents":                   {"a", signedText(string(good.Set) + "{}"), CodeFormat, "no JSON"},
		"too long":                        {"a", signedText(strings.Repeat(" ", MaxBytes+1)), CodeFormat, "are allowed"},
		"a file of the host as a list": {"a", unchecked(func(s *Set) {
			s.Rules = append(s.Rules, config.Rule{Name: "x", List: config.Paths{"/etc/shadow"}})
		}), CodeMistakes, `rules[1].list[0]: "/etc/shadow" is not a list of this set`},
		"a list that leads elsewhere": {"a", unchecked(func(s *Set) {
			s.Lists = []List{{Name: "../../x", SHA256: strings.Repeat("0", 64)}}
		}), CodeMistakes, "lists[0].name"},
		"every mistake at once": {"a", unchecked(func(s *Set) {
			s.Version, s.Hosts = 0, []string{"[", ""}
			s.Rules = append(s.Rules, config.Rule{Name: "badzone", Hex: "|0"}, config.Rule{Name: "-", Domain: "a..b", Ports: []int{0}})
			s.Lists = []List{{Name: "l", SHA256: "x", Size: -1}}
		}), CodeMistakes, "version: |hosts[0]: |hosts[1]: |lists[0].sha256: |lists[0].size: |rules[1].hex: |rules[1].name: |rules[2].name: |rules[2].domain: |rules[2].ports[0]: "},
		"nothing":              {"a", unchecked(func(s *Set) { s.Rules = nil }), CodeMistakes, "no rule"},
		"withdrawn with rules": {"a", unchecked(func(s *Set) { s.Withdrawn = true }), CodeMistakes, "withdrawn"},
		"over before it began": {"a", unchecked(func(s *Set) { s.Expires = noon }), CodeMistakes, "expires"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := trust.Verify(tc.as, tc.s)
			why, ok := errors.AsType[*Refusal](err)
			if !ok || why.Code != tc.want {
				t.Fatalf("the error is %v, want the code %s", err, tc.want)
			}
			for says := range strings.SplitSeq(tc.says, "|") {
				if !strings.Contains(why.Text, says) {
					t.Errorf("the reason does not say %q: %s", says, why.Text)
				}
			}
			if strings.Contains(why.Text, "\n") {
				t.Errorf("the reason has more than one line: %q", why.Text)
			}
		})
	}
}

// A key that is in the configuration twice, or beside others, is found; keys with mistakes are named.
func TestParseKeys(t *testing.T) {
	t.Parallel()
	key, public := newKey(t)
	_, other := newKey(t)
	keys, wrong := ParseKeys([]string{other.String(), public.String(), "RWQ", "", "\t" + public.String() + "\n"})
	if len(keys) != 3 || len(wrong) != 2 || wrong[0].Key != "fleet.keys[2]" || wrong[1].Key != "fleet.keys[3]" {
		t.Fatalf("keys %v, wrong %v", keys, wrong)
	}
	if _, err := (Trust{Fleet: "f", Keys: keys}).Verify("a", sign(t, newSet(1), key)); err != nil {
		t.Error(err)
	}
}

// Nothing is signed that a host would refuse: all mistakes are named before.
func TestSignRefuses(t *testing.T) {
	t.Parallel()
	key, _ := newKey(t)
	s := newSet(0)
	s.Rules = append(s.Rules, config.Rule{Name: "badzone", Domain: "a..b"})
	_, err := Sign(s, key)
	bad, ok := errors.AsType[*config.Error](err)
	if !ok || len(bad.Problems) != 3 {
		t.Fatalf("the error is %v, want three mistakes", err)
	}
}

// Lists get names of their own, and each file is in the set once.
func TestBuild(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"a/feed.txt", "b/feed.txt", "b/good names.txt"} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(name), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	s := newSet(1)
	s.Rules = nil
	in := func(name string, except bool) File { return File{filepath.Join(dir, name), except} }
	paths, err := s.Build([]config.Rule{{Name: "x", List: config.Paths{"/*"}, Format: "auto"}, {Name: "y", List: config.Paths{"/a"}}, {Name: "z", String: "z"}}, map[string][]File{
		"x": {in("a/feed.txt", false), in("b/feed.txt", false), in("b/good names.txt", true)}, "y": {in("b/feed.txt", false)},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []config.Rule{
		{Name: "x", List: config.Paths{"fleet:feed.txt", "fleet:feed-2.txt"}, Except: config.Paths{"fleet:good_names.txt"}, Format: "auto"},
		{Name: "y", List: config.Paths{"fleet:feed-2.txt"}},
		{Name: "z", String: "z"},
	}
	if d := cmp.Diff(want, s.Rules); d != "" {
		t.Error(d)
	}
	if len(s.Lists) != 3 || paths["feed-2.txt"] != filepath.Join(dir, "b/feed.txt") || s.Lists[1].Size != 10 {
		t.Errorf("the lists are %+v in %v", s.Lists, paths)
	}
	if wrong := s.check(); len(wrong) > 0 {
		t.Error(wrong)
	}
}

// Whatever stands in the bucket: it is refused, or it is a set that was signed.
func FuzzVerify(f *testing.F) {
	public, private, err := minisign.GenerateKey(zeros{})
	if err != nil {
		f.Fatal(err)
	}
	good, err := Sign(newSet(1), private)
	if err != nil {
		f.Fatal(err)
	}
	value, _ := good.Value()
	f.Add(value)                                               // what is good
	f.Add(bytes.Replace(value, []byte("RU"), []byte("RW"), 1)) // another algorithm
	f.Add([]byte(`{"set":"e30=","signature":"untrusted comment: \n\ntrusted comment: \n\n"}`))
	f.Add([]byte(`{"set":null}`))
	trust := Trust{Fleet: "f", Host: "h", Keys: []minisign.PublicKey{public}}
	f.Fuzz(func(t *testing.T, value []byte) {
		s, err := ReadValue(value)
		if err != nil {
			return
		}
		_, _ = s.Unverified()
		set, err := trust.Verify("a", s)
		if err == nil && (set.Name != "a" || !bytes.Equal(s.Set, good.Set)) {
			t.Errorf("believed %s", value)
		}
	})
}

// FuzzDecode reads what an owner of a key may have signed.
func FuzzDecode(f *testing.F) {
	doc, _ := newSet(1).Encode()
	f.Add(doc)
	f.Add([]byte(`{"format":"culprit-set-1","rules":[null],"lists":[{}],"hosts":["["]}`))
	f.Add([]byte(`{"format":"culprit-set-1","created":"0001-01-01T00:00:00Z","version":18446744073709551615}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		s, err := decode(doc)
		if err != nil {
			return
		}
		if len(s.check()) == 0 {
			s.placed("/lists")
		}
		s.For("host")
	})
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
