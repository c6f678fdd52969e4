package config

import (
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"culprit/internal/redact"
)

var (
	chainName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{0,27}$`)
	// The words of strace's "-e trace=": names, %classes, /regexes, negation.
	syscallSet = regexp.MustCompile(`^!?[A-Za-z0-9_%?/^$.*@,|()\[\]+-]+$`)
)

// validate finds what is wrong; with hunt also if there is nothing to hunt for.
func (c *Config) validate(hunt bool) problems {
	var ps problems
	if hunt && len(c.Rules) == 0 && !c.Fleet.takesRules() {
		ps.add("rules", "no rule: add at least one, such as {name: badzone, string: BADZONE}")
	}
	ps = append(ps, CheckRules(c.Rules)...)

	c.Lists.validateSources(&ps)
	ps.oneOf("firewall.table", c.Firewall.Table, "raw", "mangle", "filter")
	switch {
	case !chainName.MatchString(c.Firewall.Chain):
		ps.add("firewall.chain", "%q is not a chain name; allowed: a letter, then up to 27 letters, digits, - and _", c.Firewall.Chain)
	case slices.Contains([]string{"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING", "ACCEPT", "DROP", "QUEUE", "RETURN", "NFLOG", "LOG"}, c.Firewall.Chain):
		ps.add("firewall.chain", "%q is a name of iptables itself: choose another, such as CULPRIT", c.Firewall.Chain)
	}
	ps.within("firewall.mark_bit", c.Firewall.MarkBit, 0, 31)
	ps.oneOf("sensor", c.Sensor, SensorAuto, SensorNFLog, SensorRule, SensorMark, SensorOff)

	ps.within("nflog.group", c.NFLog.Group, 0, 65535)
	ps.within("nflog.snaplen", c.NFLog.Snaplen, 256, 65535)
	ps.within("nflog.queue", c.NFLog.Queue, 16, 1<<20)
	ps.within("nflog.rate", c.NFLog.Rate, 1, 1_000_000)

	c.validateNamespaces(&ps)
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
	c.Lookback.validate(&ps)
	c.Evidence.validate(&ps)
	c.Events.validate(&ps)
	c.Metrics.validate(&ps)
	c.Serve.validate(&ps)
	c.Fleet.validate(&ps)
	ps.oneOf("log.format", c.Log.Format, "text", "json")
	ps.oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	return ps
}

func (c *Config) validateNamespaces(ps *problems) {
	if len(c.Namespaces) == 0 {
		ps.add("namespaces", "is empty; allowed: host, all, or names, patterns of names and PIDs of network namespaces")
	}
	for i, name := range c.Namespaces {
		key := fmt.Sprintf("namespaces[%d]", i)
		switch _, err := path.Match(name, ""); {
		case name == NamespacesHost || name == NamespacesAll:
			if len(c.Namespaces) > 1 {
				ps.add(key, "%s stands alone: the namespace that culprit runs in is always looked at", name)
			}
		case err != nil:
			ps.add(key, "%q is not a pattern of names: %v", name, err)
		case name == "" || strings.Contains(name, "/"):
			ps.add(key, "%q is not a name in /run/netns or of a container, nor a PID", name)
		}
	}
}

func (c Capture) validate(ps *problems) {
	ps.oneOf("capture.scope", c.Scope, ScopeUser, ScopeProcess, ScopeContainer)
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
	ps.oneOf("capture.gate", c.Gate, GateAuto, GateBPF, GateFanotify, GateStop, GateOff)
	ps.lasts("capture.gate_deadline", c.GateDeadline, 10*time.Millisecond, 5*time.Second)
	ps.oneOf("capture.freeze", c.Freeze, FreezeAuto, FreezeOff)
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
	if e.KeepExecutables > 16<<30 {
		ps.add("evidence.keep_executables", "%s is out of range; allowed: 0B to 16GiB", e.KeepExecutables)
	}
}

func (l Lookback) validate(ps *problems) {
	const most = 1000
	for i, name := range l.Users {
		key := fmt.Sprintf("lookback.users[%d]", i)
		if name == LookbackAll {
			if len(l.Users) > 1 {
				ps.add(key, "all stands for all users but root: give it alone")
			}
			continue
		}
		switch u, err := ParseUser(name); {
		case err != nil:
			ps.add(key, "%v", err)
		case u.UID == 0:
			ps.add(key, "root cannot be recorded: that is culprit itself, and most of what the machine does")
		}
	}
	if len(l.Users) > most {
		ps.add("lookback.users", "%d are too many; allowed: %d, or [all]", len(l.Users), most)
	}
	ps.within("lookback.strings", l.Strings, 32, 2048)
	if l.Memory < 4<<20 || l.Memory > 1<<30 {
		ps.add("lookback.memory", "%s is out of range; allowed: 4MiB to 1GiB", l.Memory)
	}
}

func (l Lookback) same(as Lookback) bool {
	return slices.Equal(l.Users, as.Users) && l.Strings == as.Strings && l.Memory == as.Memory
}

// NeedsRestart names the keys that differ from the configuration in force and that a running
// daemon cannot change.
func (c *Config) NeedsRestart(inForce *Config) (keys []string) {
	for key, same := range map[string]bool{
		"firewall":              c.Firewall == inForce.Firewall,
		"nflog":                 c.NFLog == inForce.NFLog,
		"sensor":                c.Sensor == inForce.Sensor,
		"namespaces":            slices.Equal(c.Namespaces, inForce.Namespaces),
		"capture.freeze":        c.Capture.Freeze == inForce.Capture.Freeze,
		"capture.gate":          c.Capture.Gate == inForce.Capture.Gate,
		"capture.gate_deadline": c.Capture.GateDeadline == inForce.Capture.GateDeadline,
		"evidence.dir":          c.Evidence.Dir == inForce.Evidence.Dir,
		"events":                c.Events.same(inForce.Events),
		"fleet":                 c.Fleet.same(inForce.Fleet),
		"lookback":              c.Lookback.same(inForce.Lookback),
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
