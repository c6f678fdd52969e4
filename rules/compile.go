// Package rules turns the rules of the configuration into iptables and ip6tables rules, and
// keeps them in a chain of its own, which one jump in OUTPUT enters. It touches nothing else in
// the firewall, and what it removes leaves no trace.
//
// Everything runs on the calling thread and has ended when a call returns. So a thread in
// another network namespace works on the firewall of that namespace.
package rules

import (
	"fmt"
	"slices"
	"strconv"

	"culprit/internal/config"
	"culprit/internal/text"
)

// A Rule is one iptables rule.
type Rule struct {
	Name   string   // the name of the configured rule, which is also the NFLOG prefix
	Family string   // ipv4 (iptables) or ipv6 (ip6tables)
	Args   []string // what follows "iptables -t TABLE -A CHAIN"
}

// Trial returns the rules that a domain would have in a family. A kernel that takes these takes
// all others.
func Trial(c *config.Config, family string, sensing Sensing) ([]Rule, error) {
	return compileRule(c.NFLog, config.Rule{
		Name: "culprit-trial", Domain: "trial.culprit", Families: []string{family}, Protocols: []string{"udp", "tcp"}, Ports: []int{53},
	}, family, sensing)
}

// families is the order in which rules are compiled and installed.
var families = [...]string{"ipv4", "ipv6"}

// Compile turns the configuration into iptables rules, one for each family, protocol,
// destination port and destination network: first those of ipv4, in the order of the
// configuration. It reads only c, which must come from [config.Load].
func Compile(c *config.Config, sensing Sensing) ([]Rule, error) {
	var all []Rule
	for _, family := range families {
		for i, r := range c.Rules {
			rs, err := compileRule(c.NFLog, r, family, sensing)
			if err != nil {
				return nil, fmt.Errorf("compile rules[%d] %q: %w", i, r.Name, err)
			}
			all = append(all, rs...)
		}
	}
	return all, nil
}

func compileRule(n config.NFLog, r config.Rule, family string, sensing Sensing) ([]Rule, error) {
	if !slices.Contains(r.Families, family) {
		return nil, nil
	}
	match, err := matchOf(r)
	if err != nil {
		return nil, err
	}
	if r.IsList() {
		// What the kernel says of senders at the rule would be said of every question.
		sensing = Sensing{}
	}
	nets, err := netsOf(r, family)
	if err != nil {
		return nil, err
	}
	var all []Rule
	for _, protocol := range r.Protocols {
		for _, port := range r.Ports {
			for _, to := range nets {
				args := []string{"-p", protocol, "--dport", strconv.Itoa(port)}
				if to != "" {
					args = append(args, "-d", to)
				}
				args = append(args, match(headers(family, protocol))...)
				log := []string{
					"-j", "NFLOG",
					"--nflog-group", strconv.Itoa(n.Group),
					"--nflog-prefix", r.Name,
					"--nflog-size", strconv.Itoa(n.Snaplen),
					// By default the kernel holds packets back for up to a second.
					"--nflog-threshold", "1",
				}
				for _, args := range sensing.rules(args, log) {
					// A port or network that is listed twice must not log twice.
					if !slices.ContainsFunc(all, func(o Rule) bool { return slices.Equal(o.Args, args) }) {
						all = append(all, Rule{Name: r.Name, Family: family, Args: args})
					}
				}
			}
		}
	}
	return all, nil
}

// matchOf returns the arguments of the match of a rule, given where the search begins. The names of a list are not
// looked for here: the packet is logged, and lists/nfilter and the trigger decide.
func matchOf(r config.Rule) (func(from int) []string, error) {
	if r.IsList() {
		return func(int) []string { return nil }, nil
	}
	p, err := r.Pattern()
	if err != nil {
		return nil, err
	}
	return func(from int) []string {
		return append([]string{"-m", "string", "--algo", algo, "--from", strconv.Itoa(from)}, p.Args()...)
	}, nil
}

// netsOf lists the destination networks of a rule in a family; "" means any destination.
func netsOf(r config.Rule, family string) ([]string, error) {
	if len(r.To) == 0 {
		return []string{""}, nil
	}
	var nets []string
	for _, to := range r.To {
		prefix, err := config.ParseNet(to)
		if err != nil {
			return nil, fmt.Errorf("parse network %q: %w", to, err)
		}
		if config.Family(prefix.Addr()) == family {
			nets = append(nets, prefix.String())
		}
	}
	return nets, nil
}

// algo is the kernel's search algorithm, Knuth-Morris-Pratt. Boyer-Moore is faster, but it
// cannot find what straddles two pieces of a packet (lib/ts_bm.c says so), and programs
// choose the pieces: those of TCP, and of UDP by MSG_MORE, UDP_CORK or a large datagram.
const algo = "kmp"

// headers is the offset where the search begins, in bytes from the IP header: after the
// smallest IP and transport headers, so that addresses and ports cannot match. In OUTPUT
// xt_string counts from the network header, for both families (net/netfilter/xt_string.c).
func headers(family, protocol string) int {
	n := 20
	if family == "ipv6" {
		n = 40
	}
	if protocol == "tcp" {
		return n + 20
	}
	return n + 8
}

// Commands lists the commands that [Firewall.Install] runs in a firewall without rules of ours,
// quoted for a shell. It reads only c. It does not show the comment that Install puts on the
// jump when it has to create the table first.
func Commands(c *config.Config) ([]string, error) {
	all, err := Compile(c, Sensing{})
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, family := range families {
		rs := ofFamily(all, family)
		if len(rs) == 0 {
			continue
		}
		add := func(args ...string) {
			words := slices.Concat([]string{ToolName(family), "-t", c.Firewall.Table}, args, []string{"--wait", strconv.Itoa(lockWait)})
			lines = append(lines, text.Quote(words))
		}
		add("-N", c.Firewall.Chain)
		for _, r := range rs {
			add(slices.Concat([]string{"-A", c.Firewall.Chain}, r.Args)...)
		}
		add(slices.Concat([]string{"-I", hook, "1"}, jump(c.Firewall.Chain, ""))...)
	}
	return lines, nil
}

func ofFamily(all []Rule, family string) []Rule {
	var some []Rule
	for _, r := range all {
		if r.Family == family {
			some = append(some, r)
		}
	}
	return some
}
