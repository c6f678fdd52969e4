package sets

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"culprit/internal/config"
)

// check finds everything that is wrong with a set. The keys are those of the document.
func (s *Set) check() (all []config.Problem) {
	add := func(key, format string, args ...any) {
		all = append(all, config.Problem{Key: key, Text: fmt.Sprintf(format, args...)})
	}
	if !fleetName.MatchString(s.Fleet) {
		add("fleet", "%q is not the name of a fleet; allowed: a letter or digit, then up to 31 letters, digits and -", s.Fleet)
	}
	if !setName.MatchString(s.Name) {
		add("name", "%q is not the name of a set; allowed: a letter or digit, then up to 47 letters, digits, - and _", s.Name)
	}
	if s.Version == 0 {
		add("version", "is 0; the first version is 1")
	}
	if s.Created.IsZero() {
		add("created", "is missing")
	}
	if !s.Expires.IsZero() && !s.Expires.After(s.Created) {
		add("expires", "%s is not after %s, when the set was made", s.Expires, s.Created)
	}
	if len(s.Hosts) > MaxHosts {
		add("hosts", "has %d patterns, %d are allowed", len(s.Hosts), MaxHosts)
	}
	for i, p := range s.Hosts {
		if _, err := path.Match(p, ""); err != nil || p == "" || len(p) > 253 {
			add(fmt.Sprintf("hosts[%d]", i), "%q is not a pattern of names of hosts, such as web*", p)
		}
	}
	if s.Name == EndedName || s.Ended != nil {
		return append(all, s.checkEnded()...)
	}
	if s.Withdrawn {
		if len(s.Rules)+len(s.Lists) > 0 {
			add("withdrawn", "a set that is withdrawn has neither rules nor lists")
		}
		return all
	}
	return append(append(all, s.checkLists()...), s.checkRules()...)
}

// checkEnded checks the set that takes others back.
func (s *Set) checkEnded() (all []config.Problem) {
	add := func(key, format string, args ...any) {
		all = append(all, config.Problem{Key: key, Text: fmt.Sprintf(format, args...)})
	}
	if s.Name != EndedName || len(s.Ended) == 0 {
		add("name", "%q: the name %s is that of the set that takes others back, and no other can have ended", s.Name, EndedName)
	}
	if s.Withdrawn || !s.Expires.IsZero() || len(s.Hosts)+len(s.Rules)+len(s.Lists) > 0 {
		add("ended", "a set that takes others back has nothing else: it is for all hosts, and for good")
	}
	for _, name := range slices.Sorted(maps.Keys(s.Ended)) {
		if !setName.MatchString(name) || name == EndedName || s.Ended[name] == 0 {
			add("ended", "version %d of %q is not one of a set", s.Ended[name], name)
		}
	}
	return all
}

func (s *Set) checkLists() (all []config.Problem) {
	add := func(key, format string, args ...any) {
		all = append(all, config.Problem{Key: key, Text: fmt.Sprintf(format, args...)})
	}
	if len(s.Lists) > MaxLists {
		add("lists", "has %d lists, %d are allowed", len(s.Lists), MaxLists)
	}
	for i, l := range s.Lists {
		key := fmt.Sprintf("lists[%d]", i)
		if !listName.MatchString(l.Name) {
			add(key+".name", "%q is not the name of a list; allowed: a letter or digit, then up to 99 letters, digits, dots, - and _", l.Name)
		}
		if first := slices.IndexFunc(s.Lists, func(o List) bool { return o.Name == l.Name }); first < i {
			add(key+".name", "%q is already the name of lists[%d]", l.Name, first)
		}
		if !sha256Hex.MatchString(l.SHA256) {
			add(key+".sha256", "%q is not a SHA-256: 64 hexadecimal digits", l.SHA256)
		}
		if l.Size < 0 || l.Size > MaxListBytes {
			add(key+".size", "%d bytes are out of range; allowed: up to %d", l.Size, MaxListBytes)
		}
	}
	return all
}

// checkRules checks the rules as a configuration is checked, with lists that are the set's.
func (s *Set) checkRules() (all []config.Problem) {
	if len(s.Rules) == 0 {
		all = append(all, config.Problem{Key: "rules", Text: "no rule: to take a set back, withdraw it"})
	}
	if len(s.Rules) > MaxRules {
		return append(all, config.Problem{Key: "rules", Text: fmt.Sprintf("has %d rules, %d are allowed", len(s.Rules), MaxRules)})
	}
	for i, r := range s.Rules {
		for key, paths := range map[string]config.Paths{"list": r.List, "except": r.Except} {
			for j, p := range paths {
				if name, ok := strings.CutPrefix(p, Scheme); !ok || !s.has(name) {
					all = append(all, config.Problem{Key: fmt.Sprintf("rules[%d].%s[%d]", i, key, j), Text: fmt.Sprintf("%q is not a list of this set; a set cannot read files of a host", p)})
				}
			}
		}
	}
	return append(all, config.CheckRules(s.placed("/"))...)
}

func (s *Set) has(list string) bool {
	return slices.ContainsFunc(s.Lists, func(l List) bool { return l.Name == list })
}

// placed returns the rules with paths below dir in place of the names of lists, and with what they leave out.
func (s *Set) placed(dir string) (rules []config.Rule) {
	for _, r := range s.Rules {
		r.List, r.Except = s.place(r.List, dir), s.place(r.Except, dir)
		r.Set = config.RuleSet{Name: s.Name, Version: s.Version}
		rules = append(rules, r.Filled())
	}
	return rules
}

func (s *Set) place(names config.Paths, dir string) config.Paths {
	if names == nil {
		return nil
	}
	paths := config.Paths{}
	for _, n := range names {
		name := strings.TrimPrefix(n, Scheme)
		at := dir
		if i := slices.IndexFunc(s.Lists, func(l List) bool { return l.Name == name }); i >= 0 {
			at = path.Join(dir, s.Lists[i].SHA256)
		}
		paths = append(paths, path.Join(at, path.Base("/"+name)))
	}
	return paths
}
