package rules

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A Status is the state of our rules in the firewall.
type Status struct {
	Table    string
	Chain    string
	Families []FamilyStatus // those that the machine supports, ipv4 first
}

// Healthy reports whether everything is as [Firewall.Install] leaves it.
func (s Status) Healthy() bool {
	return !slices.ContainsFunc(s.Families, func(f FamilyStatus) bool { return !f.Healthy })
}

// A FamilyStatus is the part of a [Status] for one family.
type FamilyStatus struct {
	Family  string // ipv4 or ipv6
	Backend string // nft or legacy
	Chain   bool   // our chain exists
	Jumps   int    // number of jumps in OUTPUT that enter it; 1 is right
	First   bool   // no rule before one of them can take packets away
	Rules   []RuleStatus
	// Healthy: the chain holds exactly the configured rules, and one jump enters it before
	// every rule that can take a packet away. Without configured rules for this family: there
	// is no chain.
	Healthy bool
}

// A RuleStatus is one rule of our chain with its counters, which start at its installation.
type RuleStatus struct {
	Name    string // of the configured rule
	Match   string // what it matches, as iptables -S prints it
	Packets uint64
	Bytes   uint64 // including IP headers
}

// Status reads the firewall. It changes nothing and creates no table. Like everything with
// iptables it needs root.
func (f *Firewall) Status() (Status, error) {
	s := Status{Table: f.table, Chain: f.chain}
	if err := f.probe(probeReadOnly); err != nil {
		return s, err
	}
	for _, t := range f.tools {
		fs, err := f.at(t, f.table).status(ofFamily(f.rules, t.family))
		if err != nil {
			return Status{}, err
		}
		s.Families = append(s.Families, fs)
	}
	return s, nil
}

func (c ourChain) status(want []Rule) (FamilyStatus, error) {
	s := FamilyStatus{Family: c.family, Backend: c.backend}
	state, err := c.look()
	if err != nil {
		return s, err
	}
	if !state.exists {
		s.Healthy = len(want) == 0
		return s, nil
	}
	s.Chain, s.Jumps, s.First = true, len(state.jumps), state.first
	lines, err := c.ipt.ListWithCounters(c.table, c.name)
	if err != nil {
		return s, c.explain(err, "list chain %s", c)
	}
	for _, line := range lines {
		if !strings.HasPrefix(line, "-A ") || setsMark.MatchString(line) {
			continue
		}
		r, err := parseCounted(line, c.name)
		if err != nil {
			return s, fmt.Errorf("read chain %s: %w", c, err)
		}
		s.Rules = append(s.Rules, r)
	}
	same, err := c.holds(state, want)
	if err != nil {
		return s, err
	}
	s.Healthy = same && len(want) > 0 && s.Jumps == 1 && s.First
	return s, nil
}

// A rule with its counters has two forms: that of iptables -v -S, and what go-iptables makes of
// the brackets of older nft versions. The greedy beginning makes the last match win, because
// the search pattern itself may look like counters.
var (
	countedBefore = regexp.MustCompile(`^(.*) -c (\d+) (\d+) -j NFLOG(.*)$`)
	countedAfter  = regexp.MustCompile(`^(.*) -j NFLOG(.*) -c (\d+) (\d+)$`)
	prefixArg     = regexp.MustCompile(`--nflog-prefix (?:"([^"]*)"|(\S+))`)
)

// parseCounted reads one line of iptables -v -S.
func parseCounted(line, chain string) (RuleStatus, error) {
	var match, packets, bytes, target string
	if m := countedBefore.FindStringSubmatch(line); m != nil {
		match, packets, bytes, target = m[1], m[2], m[3], m[4]
	} else if m := countedAfter.FindStringSubmatch(line); m != nil {
		match, target, packets, bytes = m[1], m[2], m[3], m[4]
	} else {
		return RuleStatus{}, fmt.Errorf("find the counters in %q: this version of iptables prints them in a way culprit does not know", line)
	}
	r := RuleStatus{Match: strings.TrimPrefix(match, "-A "+chain+" ")}
	if m := prefixArg.FindStringSubmatch(target); m != nil {
		r.Name = m[1] + m[2]
	}
	var err error
	if r.Packets, err = strconv.ParseUint(packets, 10, 64); err != nil {
		return r, fmt.Errorf("parse packets: %w", err)
	}
	if r.Bytes, err = strconv.ParseUint(bytes, 10, 64); err != nil {
		return r, fmt.Errorf("parse bytes: %w", err)
	}
	return r, nil
}
