package rules

import (
	"regexp"
	"slices"
	"strings"
)

// Several culprits can run beside each other, each with a chain of its own. All of
// them want to be first in OUTPUT, and each sets right what it finds wrong: if first
// meant position 1, they would put each other in their places for ever. So first is
// who has nothing before it that can take a packet away, and the jumps of other
// culprits do not: their chains only log. No name or mark is needed to know them.

// jumpRule is a rule in OUTPUT that enters a chain for every packet, and the comment
// on it, as iptables -S prints it.
var jumpRule = regexp.MustCompile(`^-A ` + hook + ` (?:-m comment --comment (?:"([^"]*)"|([^" ]+)) )?-j ([^" ]+)$`)

// readJump reads such a rule, if the line is one and says nothing but what a culprit says.
func readJump(line string) (note, chain string, ok bool) {
	m := jumpRule.FindStringSubmatch(line)
	if m == nil {
		return "", "", false
	}
	for _, note := range notes {
		if m[1]+m[2] == note {
			return note, m[3], true
		}
	}
	return "", "", false
}

// readOthers decides whether a jump of ours is first, given all rules in OUTPUT and those
// before it, and reads what other culprits say about the table. Whoever comes second notes
// the same about who made it, so that whoever goes last removes it.
func (p place) readOthers(f *found, lines, before []string) {
	f.first = len(f.jumps) > 0
	for i, line := range lines {
		note, chain, ok := readJump(line)
		inFront := slices.Contains(before, line)
		switch {
		case !inFront && (!ok || note == "" || chain == p.chain || slices.Contains(lines[:i], line)):
		case ok && p.onlyLogs(chain):
			f.beside = further(f.beside, note) // the table is more than its chain
		default:
			f.first = f.first && !inFront
		}
	}
}

// onlyLogs reports whether a chain holds nothing but NFLOG rules: packets return from it.
// A target such as ACCEPT looks like a chain, but cannot be listed.
func (p place) onlyLogs(chain string) bool {
	lines, err := p.ipt.List(p.table, chain)
	return err == nil && !slices.ContainsFunc(lines, func(line string) bool {
		return strings.HasPrefix(line, "-A ") && !nflogRule.MatchString(line)
	})
}
