package config

import (
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const page = "../../docs/config.md"

// A docRow is a row in a table of the page, about one key.
type docRow struct {
	key       string // such as "capture.levels[].hits"
	kind      string
	preset    string // the default as YAML; "" if there is none
	allowed   string
	reload    string
	whyChange string
}

// readPage reads the rows that begin with a key, and skips all other lines.
func readPage(t *testing.T) (rows []docRow) {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	section := ""
	for i, line := range strings.Split(string(text), "\n") {
		if heading, ok := strings.CutPrefix(line, "## "); ok {
			section = heading
		}
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		cells := strings.Split(strings.TrimSuffix(strings.TrimPrefix(line, "| "), " |"), " | ")
		if len(cells) != 6 {
			t.Errorf("%s:%d: %d cells, want 6", page, i+1, len(cells))
			continue
		}
		r := docRow{
			key: strings.Trim(cells[0], "`"), kind: cells[1], preset: strings.Trim(cells[2], "`"),
			allowed: cells[3], reload: cells[4], whyChange: cells[5],
		}
		if r.preset == "–" {
			r.preset = ""
		}
		if r.kind == "" || r.allowed == "" || r.whyChange == "" {
			t.Errorf("%s:%d: %s has an empty cell", page, i+1, r.key)
		}
		if s := sectionOf(r.key); s != section && r.key != section {
			t.Errorf("%s:%d: %s stands in section %q, want %q", page, i+1, r.key, section, s)
		}
		rows = append(rows, r)
	}
	return rows
}

// sectionOf returns the heading above a key.
func sectionOf(key string) string {
	i := strings.LastIndex(key, ".")
	return strings.ReplaceAll(key[:max(i, 0)], "[]", "")
}

// keysOf lists every key of the configuration as the page writes it, with its type.
func keysOf(t reflect.Type, prefix string, found map[string]reflect.Type) {
	for i, tag := range tags(t) {
		if tag == "" || tag == "-" {
			continue
		}
		key, field := strings.TrimPrefix(prefix+"."+tag, "."), t.Field(i).Type
		switch {
		case isSection(field):
			keysOf(field, key, found)
		case field.Kind() == reflect.Slice && isSection(field.Elem()):
			found[key] = field
			keysOf(field.Elem(), key+"[]", found)
		default:
			found[key] = field
		}
	}
}

// isSection reports whether values of the type have keys of their own.
func isSection(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && slices.ContainsFunc(tags(t), func(tag string) bool { return tag != "" })
}

func kindOf(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[time.Duration]():
		return "duration"
	case t == reflect.TypeFor[Bytes]():
		return "size"
	case t == reflect.TypeFor[User]():
		return "user"
	case t.Kind() == reflect.Slice && isSection(t.Elem()):
		return "list"
	case t.Kind() == reflect.Slice:
		return "list of " + kindOf(t.Elem()) + "s"
	case t.Kind() == reflect.Bool:
		return "true or false"
	case t.Kind() == reflect.Int:
		return "number"
	case t.Kind() == reflect.String:
		return "text"
	}
	return t.String() + ", which this test does not know"
}

// needs is what an item of a list must have.
var needs = map[string]string{"rules[]": "name: a, string: b, ", "lists.sources[]": "url: \"https://a/b\", file: /a, "}

// yamlOf writes a configuration with only the given key. Without a value it writes the key's
// section without the key.
func yamlOf(key, value string) string {
	steps := strings.Split(key, ".")
	var text string
	for i := len(steps) - 1; i >= 0; i-- {
		name, item := strings.CutSuffix(steps[i], "[]")
		switch {
		case i == len(steps)-1 && value == "":
			text = ""
		case i == len(steps)-1:
			text = name + ": " + value
		case item:
			text = name + ": [{" + needs[strings.Join(steps[:i+1], ".")] + text + "}]"
		default:
			text = name + ": {" + text + "}"
		}
	}
	if !strings.HasPrefix(text, "rules:") {
		text = "rules: [{" + needs["rules[]"] + "}], " + text
	}
	return "{" + text + "}"
}

// valueAt returns the value of a key.
func valueAt(t *testing.T, c *Config, key string) reflect.Value {
	t.Helper()
	v := reflect.ValueOf(c).Elem()
	for _, step := range strings.Split(key, ".") {
		name, item := strings.CutSuffix(step, "[]")
		i := slices.Index(tags(v.Type()), name)
		if i < 0 {
			t.Fatalf("%s has %s, which is no key", page, key)
		}
		v = v.Field(i)
		if item {
			v = v.Index(0)
		}
	}
	return v
}

func parsed(t *testing.T, yaml string) *Config {
	t.Helper()
	c, err := Parse("f", []byte(yaml))
	if err != nil {
		t.Fatalf("%s: %v", yaml, err)
	}
	return c
}

func TestPageHasEveryKey(t *testing.T) {
	t.Parallel()
	want := map[string]reflect.Type{}
	keysOf(reflect.TypeFor[Config](), "", want)
	for _, r := range readPage(t) {
		kind, known := want[r.key]
		if !known {
			t.Errorf("%s has %s, which is no key, or has it twice", page, r.key)
			continue
		}
		delete(want, r.key)
		if got := kindOf(kind); got != r.kind {
			t.Errorf("%s is of type %q, the page says %q", r.key, got, r.kind)
		}
	}
	for key := range want {
		t.Errorf("%s lacks %s", page, key)
	}
}

// Writing a default into the file makes no difference.
func TestPageHasTheDefaults(t *testing.T) {
	t.Parallel()
	for _, r := range readPage(t) {
		if r.preset == "" {
			if v := valueAt(t, &Config{Rules: []Rule{{}}, Lists: Lists{Sources: []Source{{}}}}, r.key); !v.IsZero() && r.key != "rules" {
				t.Errorf("%s has no default by the page, but it has %v", r.key, v)
			}
			if section := sectionOf(r.key); section != "rules" && section != "lists.sources" && r.key != "rules" {
				t.Errorf("%s: only rules and sources have keys without a default", r.key)
			}
			continue
		}
		leftOut := valueAt(t, parsed(t, yamlOf(r.key, "")), r.key).Interface()
		given := valueAt(t, parsed(t, yamlOf(r.key, r.preset)), r.key).Interface()
		if d := cmp.Diff(leftOut, given, cmpopts.EquateEmpty()); d != "" {
			t.Errorf("%s: the default (-) is not what the page says (+):\n%s", r.key, d)
		}
	}
}

var (
	span  = regexp.MustCompile(`^(\S+) to (\S+)$`)
	words = regexp.MustCompile("^`[^`]+`(, `[^`]+`)*$")
)

// The code has the ranges and words of the page: it accepts their ends, and refuses what is
// just outside with the name of the key.
func TestPageHasTheRanges(t *testing.T) {
	t.Parallel()
	for _, r := range readPage(t) {
		var good, bad []string
		switch m := span.FindStringSubmatch(r.allowed); {
		case m != nil:
			good = []string{m[1], m[2]}
			bad = []string{beside(t, r, m[1], -1), beside(t, r, m[2], +1)}
		case words.MatchString(r.allowed):
			for word := range strings.SplitSeq(r.allowed, ", ") {
				good = append(good, strings.Trim(word, "`"))
			}
			bad = []string{"sometimes"}
		case slices.Contains([]string{"number", "duration", "size"}, r.kind) && r.key != "capture.levels[].hits":
			t.Errorf("%s: the page has no range (LOW to HIGH) but %q", r.key, r.allowed)
		}
		for _, value := range good {
			if _, err := Parse("f", []byte(yamlOf(r.key, r.asValue(value)))); err != nil {
				t.Errorf("%s: the page allows %s, but: %v", r.key, value, err)
			}
		}
		for _, value := range bad {
			_, err := Parse("f", []byte(yamlOf(r.key, r.asValue(value))))
			if name := strings.ReplaceAll(r.key, "[]", "[0]"); err == nil || !strings.Contains(err.Error(), "f:1: "+name) {
				t.Errorf("%s: the page does not allow %s, but the code says: %v", r.key, value, err)
			}
		}
	}
}

// asValue makes a value for the key. What the page says about a list is about its items.
func (r docRow) asValue(text string) string {
	if strings.HasPrefix(r.kind, "list of ") {
		return "[" + text + "]"
	}
	return text
}

// beside returns the value just below (step -1) or above (+1) a value on the page.
func beside(t *testing.T, r docRow, value string, step int) string {
	t.Helper()
	switch r.kind {
	case "number", "list of numbers":
		n, err := strconv.Atoi(value)
		if err != nil {
			t.Fatalf("%s: %v", r.key, err)
		}
		return strconv.Itoa(n + step)
	case "duration":
		d, err := ParseDuration(value)
		if err != nil {
			t.Fatalf("%s: %v", r.key, err)
		}
		return (d + time.Duration(step)).String()
	case "size":
		n, err := ParseBytes(value)
		if err != nil {
			t.Fatalf("%s: %v", r.key, err)
		}
		return fmt.Sprintf("%dB", int64(n)+int64(step))
	}
	t.Fatalf("%s: a range of %s", r.key, r.kind)
	return ""
}

func TestPageSaysWhatNeedsARestart(t *testing.T) {
	t.Parallel()
	for _, r := range readPage(t) {
		c, inForce := parsed(t, yamlOf(r.key, "")), parsed(t, yamlOf(r.key, ""))
		change(t, valueAt(t, c, r.key))
		want := map[bool]string{true: "yes", false: "no"}[len(c.NeedsRestart(inForce)) == 0]
		if r.reload != want {
			t.Errorf("%s: the page says %q about a reload, want %q", r.key, r.reload, want)
		}
	}
}

// change changes a value.
func change(t *testing.T, v reflect.Value) {
	t.Helper()
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.Int, reflect.Int64:
		v.SetInt(v.Int() + 1)
	case reflect.String:
		v.SetString(v.String() + "x")
	case reflect.Slice:
		v.Set(reflect.Append(v, reflect.Zero(v.Type().Elem())))
	case reflect.Struct: // a user
		change(t, v.Field(0))
	case reflect.Uint32:
		v.SetUint(v.Uint() + 1)
	default:
		t.Fatalf("cannot change a %s", v.Type())
	}
}
