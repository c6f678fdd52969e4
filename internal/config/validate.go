package config

import (
	"fmt"
	"maps"
	"net/netip"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"culprit/internal/pattern"
	"culprit/internal/redact"
)

var (
	ruleName  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,47}$`)
	chainName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{0,27}$`)
	// The words of strace's "-e trace=": names, %classes, /regexes, negation.
	syscallSet = regexp.MustCompile(`^!?[A-Za-z0-9_%?/^$.*@,|()\[\]+-]+$`)
)

// problems collects the mistakes, key by key.
type problems []Problem

func (ps *problems) add(key, format string, args ...any) {
	*ps = append(*ps, Problem{Key: key, Text: fmt.Sprintf(format, args...)})
}

func (ps *problems) oneOf(key, got string, allowed ...string) {
	if !slices.Contains(allowed, got) {
		ps.add(key, "%q is not known; allowed: %s", got, strings.Join(allowed, ", "))
	}
}

func (ps *problems) within(key string, got, low, high int) {
	if got < low || got > high {
		ps.add(key, "%d is out of range; allowed: %d to %d", got, low, high)
	}
}

func (ps *problems) lasts(key string, got, low, high time.Duration) {
	if got < low || got > high {
		ps.add(key, "%s is out of range; allowed: %s to %s", got, low, high)
	}
}

func (c *Config) validate() problems {
	var ps problems
	if len(c.Rules) == 0 {
		ps.add("rules", "no rule: add at least one, such as {name: badzone, string: BADZONE}")
	}
	seen := map[string]int{}
	for i, r := range c.Rules {
		key := fmt.Sprintf("rules[%d]", i)
		r.validate(&ps, key)
		if first, twice := seen[r.Name]; twice && r.Name != "" {
			ps.add(key+".name", "%q is already the name of rules[%d]: names must differ", r.Name, first)
		} else {
			seen[r.Name] = i
		}
	}

	ps.oneOf("firewall.table", c.Firewall.Table, "raw", "mangle", "filter")
	switch {
	case !chainName.MatchString(c.Firewall.Chain):
		ps.add("firewall.chain", "%q is not a chain name; allowed: a letter, then up to 27 letters, digits, - and _", c.Firewall.Chain)
	case slices.Contains([]string{"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING", "ACCEPT", "DROP", "QUEUE", "RETURN", "NFLOG", "LOG"}, c.Firewall.Chain):
		ps.add("firewall.chain", "%q is a name of iptables itself: choose another, such as CULPRIT", c.Firewall.Chain)
	}

	ps.within("nflog.group", c.NFLog.Group, 0, 65535)
	ps.within("nflog.snaplen", c.NFLog.Snaplen, 256, 65535)
	ps.within("nflog.queue", c.NFLog.Queue, 16, 1<<20)
	ps.within("nflog.rate", c.NFLog.Rate, 1, 1_000_000)

	c.Capture.validate(&ps)

	for i, pat := range c.Guard.NeverExecutables {
		key := fmt.Sprintf("guard.never_executables[%d]", i)
		if ps.pathPattern(key, pat); !strings.HasPrefix(pat, "/") {
			ps.add(key, "%q is not an absolute path; * matches within one directory, as in /usr/lib/jvm/*/bin/java", pat)
		}
	}
	for i, name := range c.Guard.Resolvers {
		key := fmt.Sprintf("guard.resolvers[%d]", i)
		if name == "" {
			ps.add(key, "empty: name a user, or the path of a program")
		} else if strings.Contains(name, "/") {
			ps.pathPattern(key, name)
		}
	}
	c.Evidence.validate(&ps)
	c.Events.validate(&ps)
	c.Metrics.validate(&ps)
	ps.oneOf("log.format", c.Log.Format, "text", "json")
	ps.oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	return ps
}

func (ps *problems) pathPattern(key, pattern string) {
	if _, err := path.Match(pattern, ""); err != nil {
		ps.add(key, "%q is not a path pattern: %v", pattern, err)
	}
}

func (r Rule) validate(ps *problems, key string) {
	if !ruleName.MatchString(r.Name) {
		ps.add(key+".name", "%q is not a rule name; allowed: a letter or digit, then up to 47 letters, digits, dots, - and _", r.Name)
	}
	given := 0
	for _, k := range []string{r.String, r.Hex, r.Domain} {
		if k != "" {
			given++
		}
	}
	if given != 1 {
		ps.add(key, "has %d of string, hex and domain; give exactly one", given)
	} else if what, _, err := r.pattern(); err != nil {
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

func (c Capture) validate(ps *problems) {
	ps.oneOf("capture.scope", c.Scope, ScopeUser, ScopeProcess)
	if len(c.Levels) == 0 {
		ps.add("capture.levels", "no level: add at least one, such as {hits: 1, processes: 5, window: 30s, strings: 512}")
	}
	for i, l := range c.Levels {
		key := fmt.Sprintf("capture.levels[%d]", i)
		switch {
		case i == 0 && l.Hits != 1:
			ps.add(key+".hits", "is %d, but the first level starts at the first hit; allowed: 1", l.Hits)
		case i > 0 && l.Hits <= c.Levels[i-1].Hits:
			ps.add(key+".hits", "is %d, but each level needs more hits than the one before it (%d)", l.Hits, c.Levels[i-1].Hits)
		}
		ps.within(key+".processes", l.Processes, 1, 100_000)
		ps.lasts(key+".window", l.Window, time.Second, 24*time.Hour)
		ps.within(key+".strings", l.Strings, 32, 1<<20)
		if l.Syscalls != "" && !syscallSet.MatchString(l.Syscalls) {
			ps.add(key+".syscalls", "%q is not what strace's -e trace= takes, such as %%network,%%file,execve", l.Syscalls)
		}
	}
	ps.within("capture.concurrent", c.Concurrent, 1, 4096)
	if c.TraceBytes < 64<<10 || c.TraceBytes > 1<<40 {
		ps.add("capture.trace_bytes", "%s is out of range; allowed: 64KiB to 1TiB", c.TraceBytes)
	}
	ps.lasts("capture.linger", c.Linger, 0, 24*time.Hour)
	ps.oneOf("capture.gate", c.Gate, GateAuto, GateStop, GateOff)
	ps.lasts("capture.gate_deadline", c.GateDeadline, 10*time.Millisecond, 5*time.Second)
	_, wrong := redact.Compile(c.Redact)
	for _, i := range slices.Sorted(maps.Keys(wrong)) {
		ps.add(fmt.Sprintf("capture.redact[%d]", i), "%q is not a pattern of secrets: %v", c.Redact[i], wrong[i])
	}
}

func (e Evidence) validate(ps *problems) {
	if !filepath.IsAbs(e.Dir) {
		ps.add("evidence.dir", "%q is not an absolute path", e.Dir)
	}
	if e.Keep < time.Second || e.Keep > 3650*day {
		ps.add("evidence.keep", "%s is out of range; allowed: 1s to 3650d", e.Keep)
	}
	if e.MaxBytes < 64<<10 || e.MaxBytes > 1<<50 {
		ps.add("evidence.max_bytes", "%s is out of range; allowed: 64KiB to 1024TiB", e.MaxBytes)
	}
	if e.MinFree > 1<<50 {
		ps.add("evidence.min_free", "%s is out of range; allowed: 0B to 1024TiB", e.MinFree)
	}
}

func (e Events) validate(ps *problems) {
	ways := 0
	if e.File != "" {
		ways++
		if !filepath.IsAbs(e.File) {
			ps.add("events.file", "%q is not an absolute path", e.File)
		}
	}
	if e.Journald {
		ways++
	}
	if len(e.Command) > 0 {
		ways++
		if !filepath.IsAbs(e.Command[0]) {
			ps.add("events.command[0]", "%q is not an absolute path", e.Command[0])
		}
	}
	if ways > 1 {
		ps.add("events", "has %d of file, journald and command; give one at most", ways)
	}
}

func (e Events) same(as Events) bool {
	return e.File == as.File && e.Journald == as.Journald && slices.Equal(e.Command, as.Command)
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

// Pattern returns what the rule looks for. The rule must come from [Load].
func (r Rule) Pattern() (pattern.Pattern, error) {
	_, p, err := r.pattern()
	return p, err
}

// NeedsRestart names the keys that differ from the configuration in force and that a running
// daemon cannot change.
func (c *Config) NeedsRestart(inForce *Config) (keys []string) {
	for key, same := range map[string]bool{
		"firewall":              c.Firewall == inForce.Firewall,
		"nflog":                 c.NFLog == inForce.NFLog,
		"capture.gate":          c.Capture.Gate == inForce.Capture.Gate,
		"capture.gate_deadline": c.Capture.GateDeadline == inForce.Capture.GateDeadline,
		"evidence.dir":          c.Evidence.Dir == inForce.Evidence.Dir,
		"events":                c.Events.same(inForce.Events),
		"metrics":               c.Metrics == inForce.Metrics,
		"log.format":            c.Log.Format == inForce.Log.Format,
	} {
		if !same {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// Warnings lists settings that are allowed but cannot have the effect that they seem to have.
func (c *Config) Warnings() []string {
	var ws []string
	for _, r := range c.Rules {
		if strings.Contains(r.String, ".") && slices.Contains(r.Ports, 53) {
			ws = append(ws, fmt.Sprintf("rule %s: names in DNS packets have no dots, so the string %q will not match a lookup; use domain: %s", r.Name, r.String, r.String))
		}
	}
	return append(ws, c.Metrics.warnings()...)
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

// Keys lists the keys of a section of the configuration, in order. The section "" is the whole
// file; "rules" and "rules[1]" are the same. It returns nil if there is no such section.
func Keys(section string) []string {
	t := reflect.TypeFor[Config]()
	for _, step := range splitKey(section) {
		if _, err := strconv.Atoi(step); err == nil {
			continue // all items of a list are alike
		}
		i := slices.Index(tags(t), step)
		if i < 0 {
			return nil
		}
		if t = t.Field(i).Type; t.Kind() == reflect.Slice {
			t = t.Elem()
		}
	}
	return slices.DeleteFunc(tags(t), func(tag string) bool { return tag == "" || tag == "-" })
}

// tags returns the keys of a struct's fields, field by field; nil for other types.
func tags(t reflect.Type) []string {
	if t.Kind() != reflect.Struct {
		return nil
	}
	var all []string
	for i := range t.NumField() {
		all = append(all, t.Field(i).Tag.Get("mapstructure"))
	}
	return all
}
