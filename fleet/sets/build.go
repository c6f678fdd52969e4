package sets

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"culprit/internal/config"
)

// A File is a file that a rule of a configuration names.
type File struct {
	Path   string
	Except bool // it has exceptions
}

// Build gives a set the rules of a configuration. The files of their lists, by the names of the rules, become the lists of the set. It
// returns where each of these is, by name.
func (s *Set) Build(rules []config.Rule, files map[string][]File) (paths map[string]string, err error) {
	b := builder{set: s, names: map[string]string{}, paths: map[string]string{}}
	for _, r := range rules {
		r.List, r.Except, r.Set = nil, nil, config.RuleSet{}
		for _, f := range files[r.Name] {
			name, err := b.list(f.Path)
			if err != nil {
				return nil, fmt.Errorf("rule %s: %w", r.Name, err)
			}
			if f.Except {
				r.Except = append(r.Except, Scheme+name)
			} else {
				r.List = append(r.List, Scheme+name)
			}
		}
		s.Rules = append(s.Rules, r)
	}
	return b.paths, nil
}

type builder struct {
	set   *Set
	names map[string]string // of lists, by path
	paths map[string]string // of lists, by name
}

// list returns the name in the set of the list that is the file.
func (b *builder) list(path string) (string, error) {
	if name, known := b.names[path]; known {
		return name, nil
	}
	sum, size, err := Sum(path)
	if err != nil {
		return "", fmt.Errorf("read the list: %w", err)
	}
	name := b.free(filepath.Base(path))
	b.set.Lists = append(b.set.Lists, List{Name: name, SHA256: sum, Size: size})
	b.names[path], b.paths[name] = name, path
	return name, nil
}

// free makes a name for a list of the name of its file: "feed.txt", "feed-2.txt".
func (b *builder) free(base string) string {
	name := strings.Map(func(r rune) rune {
		if r < 128 && listName.MatchString("a"+string(r)) {
			return r
		}
		return '_'
	}, base)
	if !listName.MatchString(name) {
		name = "list-" + name[max(0, len(name)-60):]
	}
	ext := filepath.Ext(name)
	stem := strings.TrimSuffix(name, ext)
	for n := 2; slices.ContainsFunc(b.set.Lists, func(l List) bool { return l.Name == name }); n++ {
		name = fmt.Sprintf("%s-%d%s", stem, n, ext)
	}
	return name
}
