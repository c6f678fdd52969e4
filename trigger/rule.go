package trigger

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"culprit/internal/config"
	"culprit/internal/event"
	"culprit/internal/pattern"
	"culprit/lists/format"
	"culprit/lists/set"
)

// A Rule decides which packets that the firewall logged for it are hits.
type Rule struct {
	Name string
	Set  config.RuleSet // that it comes from; zero: the configuration
	// Pattern is what the kernel looked for, if there is no List.
	Pattern pattern.Pattern
	// List has the names that are looked for.
	List *set.Set
	// What the packets are that it looks at. The firewall knows that, except in other network namespaces.
	Protocols, Families []string
	Ports               []int
	To                  []netip.Prefix // none: all
	// Unsensed says that the kernel does not say who sends the packets of this rule.
	Unsensed bool
}

// Rules returns what the rules of a configuration look for: those with a list what lists has under their names. It has
// no more rules than that.
func Rules(rules []config.Rule, lists map[string]*set.Set) ([]Rule, error) {
	var all []Rule
	for _, r := range rules {
		rule := Rule{Name: r.Name, Set: r.Set, Protocols: r.Protocols, Families: r.Families, Ports: r.Ports}
		for _, to := range r.To {
			prefix, err := config.ParseNet(to)
			if err != nil {
				return nil, fmt.Errorf("rule %s: %w", r.Name, err)
			}
			rule.To = append(rule.To, prefix)
		}
		if r.IsList() {
			if rule.List = lists[r.Name]; rule.List == nil {
				return nil, fmt.Errorf("rule %s: its list was not loaded", r.Name)
			}
		} else {
			var err error
			if rule.Pattern, err = r.Pattern(); err != nil {
				return nil, fmt.Errorf("rule %s: %w", r.Name, err)
			}
		}
		all = append(all, rule)
	}
	return all, nil
}

// byName returns rules by their names. Of those with the same name the last counts.
func byName(rules []Rule) map[string]*Rule {
	all := map[string]*Rule{}
	for _, r := range rules {
		all[r.Name] = &r
	}
	return all
}

// exact reports whether only a question that the rule means makes a hit. For others the kernel's match stands.
func (r *Rule) exact() bool { return r.List != nil || r.Pattern.IsDomain() }

// matching returns which question the rule means, or -1 if none: the text of a pattern may stand elsewhere in the packet.
func (r *Rule) matching(asked []question) int {
	return slices.IndexFunc(asked, func(q question) bool {
		switch {
		case r.List != nil:
			_, found := r.List.Find(q.name)
			return found && !q.answer
		case r.Pattern.IsDomain():
			return r.Pattern.Contains(q.Question.Name)
		}
		return r.Pattern.Matches(q.wire)
	})
}

// later returns the question that the rule means and that is not at the beginning of a payload, or nil.
func (r *Rule) later(transport string, payload []byte) []question {
	if r.List != nil {
		return r.anywhere(payload)
	}
	if transport != "udp" {
		return nil
	}
	return later(r.Pattern, payload)
}

// anywhere looks at each place of a payload for a query about a name on the list. A segment of TCP may begin within a message, or
// hold more of them than are shown, and one packet may hold many datagrams, as for [later].
func (r *Rule) anywhere(payload []byte) []question {
	const smallest = headerLen + 2 + 1 + 4 // a label of one byte, the root; type and class
	for at := 1; at+smallest <= len(payload); at++ {
		if asked := oneQuestion(payload[at:]); r.matching(asked) >= 0 {
			return asked
		}
	}
	return nil
}

// named is the rule in a hit.
func (r *Rule) named() event.Rule {
	n := event.Rule{Name: r.Name, Ruleset: r.Set.Name}
	if r.Set.Name != "" {
		n.Version = strconv.FormatUint(r.Set.Version, 10)
	}
	return n
}

// name says in a hit which entry of the list means the question.
func (r *Rule) name(h *event.Hit, q question) {
	if r.List == nil {
		return
	}
	if m, found := r.List.Find(q.name); found {
		listed := event.Listed{File: m.File(), Line: m.Line(), Scope: scopes[m.Kind()]}
		h.Threat, h.Culprit.Listed = event.NewThreat(listed, m.Name(), m.Comment()), &listed
	}
}

// scopes are what an entry means by its name, in the words of a hit.
var scopes = [...]event.Scope{format.Self: event.ScopeSelf, format.Below: event.ScopeBelow, format.Whole: event.ScopeWhole}
