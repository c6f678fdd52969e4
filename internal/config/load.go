package config

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/viper"
	"go.yaml.in/yaml/v3"
)

// A Problem is one mistake in a configuration.
type Problem struct {
	Line int    // in the file, from 1; 0 if the file does not have the key
	Key  string // such as "rules[0].hex"; empty for the whole file
	Text string // what is wrong, and what is allowed
}

// An Error holds every mistake found in one file.
type Error struct {
	Path     string
	Problems []Problem
	cause    error // why the file could not be read
}

// Unwrap returns why the file could not be read, or nil if it was.
func (e *Error) Unwrap() error { return e.cause }

// Error lists the problems, one on each line, as "file:line: key: text".
func (e *Error) Error() string {
	var b strings.Builder
	for i, p := range e.Problems {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(e.Path)
		if p.Line > 0 {
			fmt.Fprintf(&b, ":%d", p.Line)
		}
		if p.Key != "" {
			fmt.Fprintf(&b, ": %s", p.Key)
		}
		fmt.Fprintf(&b, ": %s", p.Text)
	}
	return b.String()
}

// Load reads the file at path. If the file can be read but its content cannot work, the error
// is an *[Error] with all mistakes.
func Load(path string) (*Config, error) { return load(path, true) }

// LoadToLook is [Load] for who does not hunt, but looks at evidence or a fleet: there need be no rule.
func LoadToLook(path string) (*Config, error) { return load(path, false) }

func load(path string, hunt bool) (*Config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		why := err
		if e, ok := errors.AsType[*fs.PathError](err); ok {
			why = e.Err // the path is in every message
		}
		problem := fmt.Sprintf("read the configuration: %v", why)
		if errors.Is(err, os.ErrNotExist) {
			problem += ": name another file with -c, or start from config.example.yaml"
		}
		return nil, &Error{path, []Problem{{Text: problem}}, err}
	}
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	return parse(path, text, hunt)
}

// Parse is [Load] for a text; path is only used in messages.
func Parse(path string, text []byte) (*Config, error) { return parse(path, text, true) }

func parse(path string, text []byte, hunt bool) (*Config, error) {
	// Keys hold no user data, but a stray dot in one must not split it.
	v := viper.NewWithOptions(viper.KeyDelimiter("\x00"))
	v.SetConfigType("yaml")
	if err := v.ReadConfig(strings.NewReader(string(text))); err != nil {
		return nil, &Error{Path: path, Problems: []Problem{{Text: "not YAML: " + strings.TrimPrefix(err.Error(), "While parsing config: ")}}}
	}
	c := Default()
	c.Path = path
	var problems []Problem
	err := v.Unmarshal(&c, func(d *mapstructure.DecoderConfig) {
		d.DecodeHook = mapstructure.DecodeHookFuncType(decodeHook)
		d.WeaklyTypedInput = false
		d.ZeroFields = true // a list in the file replaces the default
	})
	if err != nil {
		problems = decodeProblems(err)
	}
	problems = append(problems, unknownKeys("", v.AllSettings())...)
	for i := range c.Rules {
		fillRule(&c.Rules[i])
	}
	for i := range c.Lists.Sources {
		fillSource(&c.Lists.Sources[i])
	}
	section, _ := v.Get("capture").(map[string]any)
	levels, _ := section["levels"].([]any)
	fillLevels(c.Capture.Levels, func(level int, key string) bool {
		if level >= len(levels) {
			return false
		}
		keys, _ := levels[level].(map[string]any)
		return keys[key] != nil
	})

	// A key that could not be read already has a problem, and so does its section.
	unread := problems
	for _, p := range c.validate(hunt) {
		if !slices.ContainsFunc(unread, func(q Problem) bool { return within(q.Key, p.Key) }) {
			problems = append(problems, p)
		}
	}
	if len(problems) == 0 {
		return &c, nil
	}
	return nil, refuse(path, text, problems)
}

// Refuse makes the error of mistakes that show only when the configuration is used: lists that are not there. It is
// nil if there are none.
func (c *Config) Refuse(problems []Problem) error {
	if len(problems) == 0 {
		return nil
	}
	text, _ := os.ReadFile(c.Path) // only to name the lines
	return refuse(c.Path, text, problems)
}

func refuse(path string, text []byte, problems []Problem) *Error {
	var root yaml.Node
	if yaml.Unmarshal(text, &root) == nil {
		for i := range problems {
			problems[i].Line = lineOf(&root, problems[i].Key)
		}
	}
	slices.SortStableFunc(problems, func(a, b Problem) int { return a.Line - b.Line })
	return &Error{Path: path, Problems: problems}
}

// unknownKeys finds the keys in a section that no field takes, at any depth, and names the keys
// that the section has.
func unknownKeys(section string, value any) (found []Problem) {
	switch v := value.(type) {
	case []any:
		for i, item := range v {
			found = append(found, unknownKeys(fmt.Sprintf("%s[%d]", section, i), item)...)
		}
	case map[string]any:
		allowed := Keys(section)
		if allowed == nil {
			return nil // not a section at all: the mistake is its type
		}
		for _, key := range slices.Sorted(maps.Keys(v)) {
			path := strings.TrimPrefix(section+"."+key, ".")
			if slices.Contains(allowed, key) {
				found = append(found, unknownKeys(path, v[key])...)
				continue
			}
			text := "unknown key"
			for _, k := range allowed {
				if near(key, k) {
					text += fmt.Sprintf(", did you mean %q?", k)
				}
			}
			found = append(found, Problem{Key: path, Text: fmt.Sprintf("%s; allowed here: %s", text, strings.Join(allowed, ", "))})
		}
	}
	return found
}

// within reports whether key is the section or lies in it.
func within(key, section string) bool {
	rest, ok := strings.CutPrefix(key, section)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

// near reports whether a and b differ by one edit: one letter added, removed or changed, or two
// neighbours swapped.
func near(a, b string) bool {
	if len(a) > len(b) {
		a, b = b, a
	}
	i := 0
	for i < len(a) && a[i] == b[i] {
		i++
	}
	switch len(b) - len(a) {
	case 0:
		return i < len(a) && (a[i+1:] == b[i+1:] ||
			i+1 < len(a) && a[i] == b[i+1] && a[i+1] == b[i] && a[i+2:] == b[i+2:])
	case 1:
		return a[i:] == b[i+1:]
	}
	return false
}

// lineOf returns the line of key in the document, or that of its nearest section.
func lineOf(n *yaml.Node, key string) int {
	if n.Kind == yaml.DocumentNode && len(n.Content) > 0 {
		n = n.Content[0]
	}
	line := 0
	for _, step := range splitKey(key) {
		next := (*yaml.Node)(nil)
		if i, err := strconv.Atoi(step); err == nil && n.Kind == yaml.SequenceNode && i < len(n.Content) {
			next = n.Content[i]
			line = next.Line
		}
		if n.Kind == yaml.MappingNode {
			for i := 0; i+1 < len(n.Content); i += 2 {
				if strings.EqualFold(n.Content[i].Value, step) {
					next = n.Content[i+1]
					line = n.Content[i].Line
				}
			}
		}
		if next == nil {
			break
		}
		n = next
	}
	return line
}

// splitKey splits "rules[0].hex" into "rules", "0", "hex".
func splitKey(key string) []string {
	return strings.FieldsFunc(key, func(r rune) bool { return r == '.' || r == '[' || r == ']' })
}
