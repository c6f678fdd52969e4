package sigma

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	sigma "github.com/bradleyjkemp/sigma-go"

	"culprit/internal/text"
)

// A meaning is what a part of a condition means: any of the entries and patterns, but none of the
// exceptions.
type meaning struct {
	entries, except []string
	patterns        []Pattern
	notes           []note
	missing         []string
}

// A note says where other names are meant than Sigma means.
type note struct {
	what, example string
	more          int // examples
}

func (n note) String() string {
	if n.more == 0 {
		return n.what + ": " + n.example
	}
	return fmt.Sprintf("%s: %s; and so for %d more", n.what, n.example, n.more)
}

// join adds notes to others, and counts those that say the same.
func join(notes, others []note) []note {
	for _, n := range others {
		if i := slices.IndexFunc(notes, func(o note) bool { return o.what == n.what }); i >= 0 {
			notes[i].more += 1 + n.more
			continue
		}
		notes = append(notes, n)
	}
	return notes
}

func missing(format string, args ...any) meaning {
	return meaning{missing: []string{fmt.Sprintf(format, args...)}}
}

func (m meaning) empty() bool { return len(m.entries) == 0 && len(m.patterns) == 0 }

// union is the meaning of "or".
func union(all []meaning) (m meaning) {
	full := 0
	for _, one := range all {
		if !one.empty() {
			full++
		}
	}
	for _, one := range all {
		m.missing = append(m.missing, one.missing...)
		if len(one.except) > 0 && full > 1 {
			// The exceptions of a list are exceptions from all of it.
			m.missing = append(m.missing, "condition: not, in a part of an or")
			continue
		}
		m.entries = append(m.entries, one.entries...)
		m.except = append(m.except, one.except...)
		m.patterns = append(m.patterns, one.patterns...)
		m.notes = join(m.notes, one.notes)
	}
	return m
}

// evaluate finds out what an expression means.
func evaluate(e sigma.SearchExpr, searches map[string]sigma.Search) meaning {
	switch e := e.(type) {
	case sigma.SearchIdentifier:
		s, ok := searches[e.Name]
		if !ok {
			return missing("condition: there is no %s", text.Escape(e.Name))
		}
		return search(e.Name, s)
	case sigma.Or:
		var all []meaning
		for _, one := range e {
			all = append(all, evaluate(one, searches))
		}
		return union(all)
	case sigma.And:
		return both(e, searches)
	case sigma.Not:
		return missing("condition: not, without something that it is an exception from")
	case sigma.OneOfIdentifier:
		return evaluate(e.Ident, searches)
	case sigma.AllOfIdentifier:
		return evaluate(e.Ident, searches)
	case sigma.OneOfThem:
		return union(of("*", searches))
	case sigma.OneOfPattern:
		return some(e.Pattern, searches)
	case sigma.AllOfThem:
		return every("*", searches)
	case sigma.AllOfPattern:
		return every(e.Pattern, searches)
	}
	return missing("condition: %T", e)
}

// of returns the meanings of all searches with such a name.
func of(pattern string, searches map[string]sigma.Search) (all []meaning) {
	for _, name := range slices.Sorted(maps.Keys(searches)) {
		if ok, _ := path.Match(pattern, name); ok {
			all = append(all, search(name, searches[name]))
		}
	}
	return all
}

func some(pattern string, searches map[string]sigma.Search) meaning {
	all := of(pattern, searches)
	if len(all) == 0 {
		return missing("condition: there is no %s", text.Escape(pattern))
	}
	return union(all)
}

func every(pattern string, searches map[string]sigma.Search) meaning {
	all := of(pattern, searches)
	if len(all) != 1 {
		return missing("condition: all of %s, at once", text.Escape(pattern))
	}
	return all[0]
}

// both finds out what "and" means: one thing, and no exception from it.
func both(e sigma.And, searches map[string]sigma.Search) meaning {
	var wanted []sigma.SearchExpr
	var not []meaning
	for _, one := range e {
		if n, ok := one.(sigma.Not); ok {
			not = append(not, evaluate(n.Expr, searches))
			continue
		}
		wanted = append(wanted, one)
	}
	if len(wanted) != 1 {
		return missing("condition: and, of several things that one question must have")
	}
	m := evaluate(wanted[0], searches)
	if m.empty() || len(not) == 0 {
		return m
	}
	x := union(not)
	if len(x.missing) > 0 || len(x.notes) > 0 || len(x.patterns) > 0 || len(x.except) > 0 {
		why := x.missing
		for _, n := range x.notes {
			why = append(why, n.String())
		}
		if len(why) == 0 {
			why = []string{"an exception that is no domain"}
		}
		return missing("condition: not, of what cannot be expressed exactly (%s)", strings.Join(unique(why), "; "))
	}
	if len(m.patterns) > 0 {
		return missing("condition: not, from something that is no domain: a rule with string or hex has no exceptions")
	}
	m.except = append(m.except, x.entries...)
	return m
}

// fields are the names of the question in the logs that rules are written for: Sysmon and Windows,
// Zeek and Sigma's own, and ECS.
var fields = []string{"QueryName", "query", "dns.question.name"}

// search finds out what a search means: any of its maps, each of which asks for all of its fields.
func search(name string, s sigma.Search) meaning {
	name = text.Escape(name)
	if len(s.Keywords) > 0 {
		return missing("%s: words anywhere in an event", name)
	}
	if len(s.EventMatchers) == 0 {
		return missing("%s: is empty", name)
	}
	var all []meaning
	for _, matcher := range s.EventMatchers {
		all = append(all, match(name, matcher))
	}
	return union(all)
}

func match(name string, matcher sigma.EventMatcher) meaning {
	var other []string
	for _, f := range matcher {
		if !slices.Contains(fields, f.Field) {
			other = append(other, text.Escape(f.Field))
		}
	}
	switch {
	case len(other) > 0:
		return missing("%s: asks for %s; culprit looks at the name in the question", name, strings.Join(unique(other), ", "))
	case len(matcher) == 0:
		return missing("%s: is empty", name)
	case len(matcher) > 1:
		return missing("%s: several things that one name must have", name)
	}
	return field(name, matcher[0])
}

// field finds out what the values of a field mean.
func field(name string, f sigma.FieldMatcher) meaning {
	name += ": " + text.Escape(strings.Join(append([]string{f.Field}, f.Modifiers...), "|"))
	var how string
	for _, m := range f.Modifiers {
		switch m {
		case "contains", "startswith", "endswith":
			if how != "" {
				return missing("%s: two modifiers", name)
			}
			how = m
		case "all":
			if len(f.Values) > 1 {
				return missing("%s: several things that one name must have", name)
			}
		default:
			return missing("%s: the modifier %s", name, text.Escape(m))
		}
	}
	if len(f.Values) == 0 {
		return missing("%s: no value", name)
	}
	var all []meaning
	for _, v := range f.Values {
		s, ok := v.(string)
		if !ok {
			all = append(all, missing("%s: %s is no text", name, text.Escape(fmt.Sprint(v))))
			continue
		}
		all = append(all, value(name, how, s))
	}
	return union(all)
}
