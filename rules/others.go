package rules

import (
	"regexp"
	"slices"
	"strings"
)

// Several culprits can run beside each other, each with a chain of its own. Each wants to be
// first in OUTPUT, and each repairs what it finds wrong. If first meant position 1, they would
// displace each other for ever. So a jump is first if no rule before it can take a packet away.
// The jumps of other culprits cannot, as their chains only log. Recognising them needs no name
// and no mark.

// jumpRule matches a rule in OUTPUT that enters a chain for every packet, with its comment, as
// iptables -S prints it.
var jumpRule = regexp.MustCompile(`^-A ` + hook + ` (?:-m comment --comment (?:"([^"]*)"|([^" ]+)) )?-j ([^" ]+)$`)

// readJump reads such a rule. It accepts no comment but those that a culprit writes.
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
// before it. It also reads what the jumps of other culprits say about who made the table. We
// repeat that on our own jump, so that the last culprit to go removes the table.
func (c ourChain) readOthers(state *chainState, lines, before []string) {
	state.first = len(state.jumps) > 0
	for i, line := range lines {
		note, chain, ok := readJump(line)
		inFront := slices.Contains(before, line)
		switch {
		case !inFront && (!ok || note == "" || chain == c.name || slices.Contains(lines[:i], line)):
		case ok && c.onlyLogs(chain):
			state.othersNote = strongerNote(state.othersNote, note) // a note about the table says more than one about its chain
		default:
			state.first = state.first && !inFront
		}
	}
}

// onlyLogs reports whether a chain holds only NFLOG rules, so that every packet returns from
// it. A target such as ACCEPT looks like a chain, but cannot be listed.
func (c ourChain) onlyLogs(chain string) bool {
	lines, err := c.ipt.List(c.table, chain)
	return err == nil && !slices.ContainsFunc(lines, func(line string) bool {
		return strings.HasPrefix(line, "-A ") && !ourRule.MatchString(line)
	})
}
