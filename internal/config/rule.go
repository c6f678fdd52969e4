package config

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"culprit/internal/pattern"
)

// Rule says what to look for in which packets. Exactly one of String, Hex, Domain and List is set.
type Rule struct {
	Name   string `mapstructure:"name" json:"name"`
	String string `mapstructure:"string" json:"string,omitempty"`
	Hex    string `mapstructure:"hex" json:"hex,omitempty"`
	Domain string `mapstructure:"domain" json:"domain,omitempty"`
	// List are the files, or patterns of files, whose names are looked for, in one of the Formats. What stands in those of
	// Except is not.
	List   Paths  `mapstructure:"list" json:"list,omitempty"`
	Format string `mapstructure:"format" json:"format,omitempty"`
	Except Paths  `mapstructure:"except" json:"except,omitempty"`

	Protocols []string `mapstructure:"protocols" json:"protocols,omitempty"`
	Ports     []int    `mapstructure:"ports" json:"ports,omitempty"`
	To        []string `mapstructure:"to" json:"to,omitempty"`
	Families  []string `mapstructure:"families" json:"families,omitempty"`

	// Set is the set of the fleet that the rule comes from; zero for rules of the configuration itself.
	Set RuleSet `mapstructure:"-" json:"-"`
}

// A RuleSet is a version of a set of rules that a host gets from its fleet.
type RuleSet struct {
	Name    string
	Version uint64
}

// IsList reports whether the names that the rule looks for are in lists.
func (r Rule) IsList() bool { return r.List != nil }

// Paths are patterns of absolute paths.
type Paths []string

// Formats are the values of rules[].format.
var Formats = []string{FormatAuto, "domains", "hosts", "rpz", "adblock", "dnsmasq", "csv", "stix", "misp"}

// FormatAuto is the format that the first lines of a list look like.
const FormatAuto = "auto"

var ruleName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,47}$`)

// CheckRules finds what is wrong with rules that are filled (see [Rule.Filled]), and with their names. The keys are those of a
// configuration: "rules[0].hex".
func CheckRules(rules []Rule) []Problem {
	var ps problems
	seen := map[string]int{}
	for i, r := range rules {
		key := fmt.Sprintf("rules[%d]", i)
		r.validate(&ps, key)
		if first, twice := seen[r.Name]; twice && r.Name != "" {
			ps.add(key+".name", "%q is already the name of rules[%d]: names must differ", r.Name, first)
		} else {
			seen[r.Name] = i
		}
	}
	return ps
}

// With returns the configuration with more rules: those that the host gets from its fleet.
func (c *Config) With(rules []Rule) *Config {
	all := *c
	all.Rules = slices.Concat(c.Rules, rules)
	return &all
}

// Filled returns the rule with what it leaves out.
func (r Rule) Filled() Rule {
	fillRule(&r)
	return r
}

func (r Rule) validate(ps *problems, key string) {
	if !ruleName.MatchString(r.Name) {
		ps.add(key+".name", "%q is not a rule name; allowed: a letter or digit, then up to 47 letters, digits, dots, - and _", r.Name)
	}
	given := 0
	for _, is := range []bool{r.String != "", r.Hex != "", r.Domain != "", r.IsList()} {
		if is {
			given++
		}
	}
	r.validateList(ps, key)
	if given != 1 {
		ps.add(key, "has %d of string, hex, domain and list; give exactly one", given)
	} else if what, _, err := r.pattern(); !r.IsList() && err != nil {
		ps.add(key+"."+what, "%v", err)
	}
	if len(r.Protocols) == 0 {
		ps.add(key+".protocols", "is empty; allowed: udp, tcp")
	}
	for i, p := range r.Protocols {
		ps.oneOf(fmt.Sprintf("%s.protocols[%d]", key, i), p, "udp", "tcp")
	}
	if len(r.Ports) == 0 {
		ps.add(key+".ports", "is empty; name the destination ports, such as [53]")
	}
	for i, p := range r.Ports {
		ps.within(fmt.Sprintf("%s.ports[%d]", key, i), p, 1, 65535)
	}
	if len(r.Families) == 0 {
		ps.add(key+".families", "is empty; allowed: ipv4, ipv6")
	}
	for i, f := range r.Families {
		ps.oneOf(fmt.Sprintf("%s.families[%d]", key, i), f, "ipv4", "ipv6")
	}
	for i, to := range r.To {
		k := fmt.Sprintf("%s.to[%d]", key, i)
		prefix, err := ParseNet(to)
		switch {
		case err != nil:
			ps.add(k, "%q is not an address or network; write 192.0.2.0/24 or 2001:db8::/32", to)
		case !slices.Contains(r.Families, Family(prefix.Addr())):
			ps.add(k, "%q is %s, but the rule's families are %s", to, Family(prefix.Addr()), strings.Join(r.Families, ", "))
		}
	}
}

func (r Rule) validateList(ps *problems, key string) {
	r.List.validate(ps, key+".list")
	r.Except.validate(ps, key+".except")
	if r.IsList() {
		ps.oneOf(key+".format", r.Format, Formats...)
		return
	}
	if r.Format != "" {
		ps.add(key+".format", "is for rules with a list")
	}
	if r.Except != nil {
		ps.add(key+".except", "is for rules with a list")
	}
}

func (p Paths) validate(ps *problems, key string) {
	if p != nil && len(p) == 0 {
		ps.add(key, "is empty; name at least one file")
	}
	for i, path := range p {
		k := fmt.Sprintf("%s[%d]", key, i)
		if ps.pathPattern(k, path); !filepath.IsAbs(path) {
			ps.add(k, "%q is not an absolute path; * matches within one directory, as in /etc/culprit/lists/*.txt", path)
		}
	}
}

// pattern returns the pattern of the rule and the key that gives it.
func (r Rule) pattern() (key string, p pattern.Pattern, err error) {
	switch {
	case r.Domain != "":
		key = "domain"
		p, err = pattern.Domain(r.Domain)
	case r.Hex != "":
		key = "hex"
		p, err = pattern.Hex(r.Hex)
	default:
		key = "string"
		p, err = pattern.String(r.String)
	}
	return key, p, err
}

// Pattern returns what the rule looks for, if it has no list. The rule must come from [Load].
func (r Rule) Pattern() (pattern.Pattern, error) {
	_, p, err := r.pattern()
	return p, err
}

// ParseNet reads an address or a network in CIDR notation.
func ParseNet(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return a.Prefix(a.BitLen())
	}
	p, err := netip.ParsePrefix(s)
	return p.Masked(), err
}

// Family names the address family as in the configuration: ipv4 or ipv6.
func Family(a netip.Addr) string {
	if a.Is4() {
		return "ipv4"
	}
	return "ipv6"
}
