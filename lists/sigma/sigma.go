// Package sigma turns rules of Sigma (https://sigmahq.io) that are about DNS questions into what
// culprit looks for: entries of a list, and patterns. What it cannot express it names; it never
// guesses. It is pure.
package sigma

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"strings"

	sigma "github.com/bradleyjkemp/sigma-go"
	"go.yaml.in/yaml/v3"

	"culprit/internal/text"
	"culprit/lists/format"
)

// A Rule is what a rule of Sigma became.
type Rule struct {
	Title, ID, Status, Level, Author string
	References                       []string
	// Entries are lines of a list in the format adblock, exceptions among them.
	Entries []string
	// Patterns are for rules of their own.
	Patterns []Pattern
	// Notes say where an entry or a pattern means other names than Sigma does.
	Notes []string
	// Missing says what of the rule could not be expressed. Without entries and patterns that is all of it.
	Missing []string
}

// A Pattern is the key and the value of a rule: string or hex.
type Pattern struct{ Key, Value string }

// Bounds of what is read.
const (
	mostBytes = 1 << 20
	mostRules = 1000 // in one text
)

// Read reads a text of one or more rules, which documents of YAML are. It fails if a document is no
// rule of Sigma.
func Read(all []byte) ([]Rule, error) {
	if len(all) > mostBytes {
		return nil, fmt.Errorf("it has more than %d bytes", mostBytes)
	}
	var rules []Rule
	for d := yaml.NewDecoder(bytes.NewReader(all)); ; {
		var document yaml.Node
		err := d.Decode(&document)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if len(rules) == mostRules {
			return nil, fmt.Errorf("it has more than %d rules", mostRules)
		}
		// The library reads one document only.
		one, err := yaml.Marshal(&document)
		if err != nil {
			return nil, err
		}
		r, err := read(one)
		if err != nil {
			return nil, fmt.Errorf("rule %d: %w", len(rules)+1, err)
		}
		rules = append(rules, r)
	}
	if len(rules) == 0 {
		return nil, errors.New("it has no rule")
	}
	return rules, nil
}

// read reads one rule.
func read(document []byte) (Rule, error) {
	s, err := sigma.ParseRule(document)
	if err != nil {
		return Rule{}, fmt.Errorf("not a rule of Sigma that can be read: %w", err)
	}
	if s.Title == "" || len(s.Detection.Searches) == 0 || len(s.Detection.Conditions) == 0 {
		return Rule{}, errors.New("not a rule of Sigma: it has no title, no detection or no condition")
	}
	r := Rule{Title: s.Title, ID: s.ID, Status: s.Status, Level: s.Level, Author: s.Author, References: s.References}
	if !aboutDNS(s.Logsource) {
		r.Missing = []string{fmt.Sprintf("it is about %s, not about DNS questions", logsource(s.Logsource))}
		return r, nil
	}
	if s.Detection.Timeframe != 0 {
		r.Missing = []string{"timeframe: how often something happens in a time"}
		return r, nil
	}
	var all []meaning
	for _, c := range s.Detection.Conditions {
		if c.Aggregation != nil {
			all = append(all, missing("condition: how often something happens (count, sum, …)"))
			continue
		}
		all = append(all, evaluate(c.Search, s.Detection.Searches))
	}
	m := union(all)
	for _, e := range m.except {
		m.entries = append(m.entries, "@@"+e)
	}
	r.Entries, r.Patterns, r.Missing = m.entries, m.patterns, m.missing
	for _, n := range m.notes {
		r.Notes = append(r.Notes, n.String())
	}
	r.drop()
	return r, nil
}

// drop leaves out entries that are none for a reader of lists, and says so.
func (r *Rule) drop() {
	lines := unique(r.Entries)
	good := map[int]bool{}
	stats, err := format.Read(strings.NewReader(strings.Join(lines, "\n")), format.Adblock, func(e format.Entry) error {
		good[e.Line-1] = true
		return nil
	})
	if err != nil {
		r.Missing = append(r.Missing, err.Error())
	}
	why := map[int]string{}
	for _, reject := range stats.First {
		why[reject.Line-1] = string(reject.Reason)
	}
	r.Entries = nil
	for i, line := range lines {
		if good[i] {
			r.Entries = append(r.Entries, line)
			continue
		}
		r.Missing = append(r.Missing, fmt.Sprintf("%s: %s", text.Escape(line), cmp.Or(why[i], "no domain")))
	}
	r.Missing = unique(r.Missing)
}

// aboutDNS reports whether the events that a rule is for are DNS questions.
func aboutDNS(l sigma.Logsource) bool {
	return l.Category == "dns_query" || l.Category == "dns" || l.Category == "" && l.Service == "dns"
}

func logsource(l sigma.Logsource) string {
	for _, what := range []string{l.Category, l.Service, l.Product} {
		if what != "" {
			return text.Escape(what)
		}
	}
	return "any events"
}

// unique removes what is there twice, and keeps the order.
func unique(all []string) (once []string) {
	seen := map[string]bool{}
	for _, s := range all {
		if !seen[s] {
			once = append(once, s)
		}
		seen[s] = true
	}
	return once
}
