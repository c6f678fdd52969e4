// Package doctor checks what this machine offers culprit, and says how to fix what it lacks. It
// leaves the machine as it was: what only a trial can show is tried in a throw-away network
// namespace, or on a process started for it.
package doctor

import (
	"context"
	"fmt"
	"os"
	"time"

	"culprit/internal/config"
)

// Status is the result of a check.
type Status int

// The greater, the worse.
const (
	OK   Status = iota // nothing to do
	Warn               // culprit runs, but less well, or the check could not find out
	Fail               // culprit cannot do its work
)

// String returns "ok", "warn" or "fail".
func (s Status) String() string {
	switch s {
	case OK:
		return "ok"
	case Warn:
		return "warn"
	case Fail:
		return "fail"
	}
	return fmt.Sprintf("Status(%d)", int(s))
}

// MarshalText writes the status as [Status.String] does.
func (s Status) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// A Check is a check and its result. Found and Remedy can contain foreign text (names of
// processes, errors of commands): escape them before printing.
type Check struct {
	Name   string `json:"name"`
	Status Status `json:"status"`
	Found  string `json:"found"`            // the state found
	Remedy string `json:"remedy,omitempty"` // what to do about it; empty if OK
}

// limit bounds each check. On a healthy machine a check takes some 10 ms.
const limit = 5 * time.Second

// Run makes every check, in order, for the configuration c (nil: the defaults). It checks the
// network namespace of the process. A check that has no result after five seconds fails, and so
// do those left when ctx ends. Without root, most checks only say that they cannot tell.
func Run(ctx context.Context, c *config.Config) []Check {
	if c == nil {
		d := config.Default()
		c = &d
	}
	checks := []struct {
		name string
		look func(context.Context, *config.Config) Check
	}{
		{"kernel", kernel},
		{"privileges", privileges},
		{"container", container},
		{"iptables", iptablesCommand},
		{"ip6tables", ip6tablesCommand},
		{"firewall backend", otherBackend},
		{"rules, IPv4", rulesIPv4},
		{"rules, IPv6", rulesIPv6},
		{"IPv6", ipv6},
		{"other firewalls", otherFirewalls},
		{"lists", listFiles},
		{"list filter", listFilter},
		{"NFLOG group", logGroup},
		{"sensor", sensing},
		{"namespaces", otherNamespaces},
		{"look-back", lookBack},
		{"BPF file system", bpfFiles},
		{"packet marks", packetMarks},
		{"socket diagnostics", socketDiag},
		{"process events", processEvents},
		{"strace", straceCommand},
		{"ptrace", ptraceScope},
		{"attaching", attaching},
		{"gate", gate},
		{"call stacks", callStacks},
		{"evidence directory", evidenceDir},
		{"events", eventsOut},
	}
	var results []Check
	for _, check := range checks {
		r := bounded(ctx, func(ctx context.Context) Check { return check.look(ctx, c) })
		r.Name = check.name
		results = append(results, r)
	}
	return results
}

// bounded gives up on a check that hangs, for example on a file server that has gone. It leaves
// the goroutine behind.
func bounded(ctx context.Context, look func(context.Context) Check) Check {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	answer := make(chan Check, 1)
	go func() { answer <- look(ctx) }()
	select {
	case r := <-answer:
		return r
	case <-ctx.Done():
		return fail("no answer: "+ctx.Err().Error(), "run culprit doctor again; if it stays, something that it asks hangs: see dmesg and, for a file system, mount")
	}
}

func ok(found string, args ...any) Check {
	return Check{Status: OK, Found: fmt.Sprintf(found, args...)}
}

func warn(found, remedy string) Check { return Check{Status: Warn, Found: found, Remedy: remedy} }

func fail(found, remedy string) Check { return Check{Status: Fail, Found: found, Remedy: remedy} }

// cannotTell is the result of a check that needs root but does not have it.
func cannotTell() Check {
	return warn("cannot tell without root", "run it as root: sudo culprit doctor")
}

func isRoot() bool { return os.Geteuid() == 0 }
