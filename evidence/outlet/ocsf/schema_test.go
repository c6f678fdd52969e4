package ocsf

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A schema is what testdata/schema-1.8.0.txt says.
type schema struct {
	classes map[string]*shape // by class_uid
	objects map[string]*shape
}

// shape is a class or an object.
type shape struct {
	attributes           map[string]attribute
	atLeastOne, justOne  []string
	hasAtLeast, hasExact bool
}

type attribute struct {
	kind     string
	list     bool
	required bool
	values   []string
	profile  string
}

func readSchema(t testing.TB) schema {
	t.Helper()
	f, err := os.Open("testdata/schema-1.8.0.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s := schema{map[string]*shape{}, map[string]*shape{}}
	var current *shape
	for lines := bufio.NewScanner(f); lines.Scan(); {
		words := strings.Fields(lines.Text())
		switch words[0] {
		case "#":
		case "class":
			current = &shape{attributes: map[string]attribute{}}
			s.classes[words[2]] = current
		case "object":
			current = &shape{attributes: map[string]attribute{}}
			s.objects[words[1]] = current
		case "at_least_one":
			current.atLeastOne, current.hasAtLeast = words[1:], true
		case "just_one":
			current.justOne, current.hasExact = words[1:], true
		case ".":
			a := attribute{kind: strings.TrimSuffix(words[2], "[]"), list: strings.HasSuffix(words[2], "[]")}
			for _, word := range words[3:] {
				switch {
				case word == "required":
					a.required = true
				case word[0] == '@':
					a.profile = word[1:]
				case word[0] == '=':
					a.values = strings.Split(word[1:], ",")
				}
			}
			current.attributes[words[1]] = a
		default:
			t.Fatalf("the schema has the line %q", lines.Text())
		}
	}
	return s
}

// check lists what is wrong with an event.
func (s schema) check(line string) (wrong []string) {
	var e map[string]any
	d := json.NewDecoder(strings.NewReader(line))
	d.UseNumber()
	if err := d.Decode(&e); err != nil {
		return []string{err.Error()}
	}
	uid := fmt.Sprint(e["class_uid"])
	class := s.classes[uid]
	if class == nil {
		return []string{"the class " + uid + " is not in the schema"}
	}
	var profiles []string
	for _, p := range list(at(e, "metadata", "profiles")) {
		profiles = append(profiles, fmt.Sprint(p))
	}
	if got, want := fmt.Sprint(e["type_uid"]), fmt.Sprint(whole(e["class_uid"])*100+whole(e["activity_id"])); got != want {
		wrong = append(wrong, "type_uid is "+got+", want "+want)
	}
	if whole(e["category_uid"]) != whole(e["class_uid"])/1000 {
		wrong = append(wrong, fmt.Sprintf("category_uid is %v of the class %s", e["category_uid"], uid))
	}
	return append(wrong, s.checkShape("", class, e, profiles)...)
}

func whole(v any) int64 {
	n, _ := v.(json.Number)
	i, _ := n.Int64()
	return i
}

func list(v any) []any {
	l, _ := v.([]any)
	return l
}

func (s schema) checkShape(where string, of *shape, o map[string]any, profiles []string) (wrong []string) {
	say := func(format string, args ...any) { wrong = append(wrong, where+": "+fmt.Sprintf(format, args...)) }
	has := func(names []string) (n int) {
		for _, name := range names {
			if _, ok := o[name]; ok {
				n++
			}
		}
		return n
	}
	if of.hasAtLeast && has(of.atLeastOne) == 0 {
		say("has none of %v", of.atLeastOne)
	}
	if n := has(of.justOne); of.hasExact && n != 1 {
		say("has %d of %v", n, of.justOne)
	}
	for name, a := range of.attributes {
		in := a.profile == "" || slices.Contains(profiles, a.profile)
		v, ok := o[name]
		switch {
		case !ok && a.required && in:
			say("%s is missing", name)
		case !ok:
		case !in:
			say("%s is of the profile %s, which metadata.profiles does not have: %v", name, a.profile, profiles)
		case a.list:
			all, isList := v.([]any)
			if !isList || len(all) == 0 {
				say("%s is not a list: %v", name, v)
			}
			for i, one := range all {
				wrong = append(wrong, s.checkValue(fmt.Sprintf("%s.%s[%d]", where, name, i), a, one, profiles)...)
			}
		default:
			wrong = append(wrong, s.checkValue(where+"."+name, a, v, profiles)...)
		}
	}
	for name := range o {
		if _, ok := of.attributes[name]; !ok {
			say("%s is not in the schema", name)
		}
	}
	return wrong
}

var uuid = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)

func (s schema) checkValue(where string, a attribute, v any, profiles []string) []string {
	text, isText := v.(string)
	n, isNumber := v.(json.Number)
	i, err := n.Int64()
	isWhole := isNumber && err == nil
	ok := false
	switch a.kind {
	case "string_t":
		ok = isText
	case "uuid_t":
		ok = uuid.MatchString(text)
	case "ip_t":
		_, err := netip.ParseAddr(text)
		ok = err == nil
	case "port_t":
		ok = isWhole && i >= 0 && i <= 65535
	case "integer_t":
		ok = isWhole && i >= -1<<31 && i < 1<<31
	case "long_t", "timestamp_t":
		ok = isWhole
	case "boolean_t":
		_, ok = v.(bool)
	case "json_t":
		ok = v != nil
	case "object":
		_, ok = v.(map[string]any)
	default:
		o, isObject := v.(map[string]any)
		of := s.objects[a.kind]
		if !isObject || of == nil {
			return []string{fmt.Sprintf("%s is no %s: %v", where, a.kind, v)}
		}
		return s.checkShape(where, of, o, profiles)
	}
	if !ok {
		return []string{fmt.Sprintf("%s is no %s: %v", where, a.kind, v)}
	}
	if uids := []string{".category_uid", ".class_uid"}; len(a.values) > 0 && !slices.Contains(uids, where) && !slices.Contains(a.values, n.String()) {
		return []string{fmt.Sprintf("%s is %v, allowed: %v", where, v, a.values)}
	}
	return nil
}
