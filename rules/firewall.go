package rules

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"culprit/internal/config"
)

// tables are the tables that can hold our chain, in the order in which a packet passes them.
var tables = [...]string{"raw", "mangle", "filter"}

// A Firewall keeps the rules of one configuration in the kernel. Only one goroutine may use it
// at a time.
type Firewall struct {
	log   *slog.Logger
	table string
	chain string
	rules []Rule
	tools []tool // at most one for each family
}

// New finds iptables and ip6tables. It neither changes nor reads the firewall. On a machine
// without IPv6 it warns, and the Firewall works without it.
func New(c *config.Config, sensing Sensing, log *slog.Logger) (*Firewall, error) {
	return open(c, sensing, log, LookPath)
}

func open(c *config.Config, sensing Sensing, log *slog.Logger, find finder) (*Firewall, error) {
	all, err := Compile(c, sensing)
	if err != nil {
		return nil, err
	}
	f := &Firewall{log: log, table: c.Firewall.Table, chain: c.Firewall.Chain, rules: all}
	for _, family := range families {
		t, err := openTool(family, ToolName(family), find)
		if err == nil && family == "ipv6" && !hasIPv6() {
			err = errors.New("find IPv6: the kernel does not support it")
		}
		if err == nil {
			f.tools = append(f.tools, t)
			continue
		}
		if err := f.doWithout(family, err); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// doWithout decides whether err, which makes a family unusable, is fatal. It is not if the
// family has no rules, and IPv6 can be done without if IPv4 has some.
func (f *Firewall) doWithout(family string, err error) error {
	switch {
	case len(ofFamily(f.rules, family)) == 0:
		return nil
	case family != "ipv6":
		return err
	case len(ofFamily(f.rules, "ipv4")) == 0:
		return fmt.Errorf("all rules are for ipv6 only: %w", err)
	}
	f.log.Warn("IPv6 is not watched, only IPv4", "error", err)
	return nil
}

// Install puts the rules into the firewall, and repairs those that are in it already.
// Afterwards our chain holds exactly the rules, and exactly one jump enters it, at the top of
// OUTPUT: only jumps of other culprits may come before it, as their chains take no packet away.
// Rules that are right stay, with their counters. Install removes what an earlier configuration
// left in another table.
//
// It is all or nothing: on an error it removes everything of ours again. If a chain of the same
// name holds anything but NFLOG rules, it belongs to somebody else, and Install touches nothing
// at all.
//
// The nft flavour creates a missing table together with its first chain. Our jump records that,
// so that Remove can remove the table again. With iptables-legacy a table exists as soon as
// anybody lists it, and only unloading its module removes it. That one trace (an empty table in
// iptables-save) stays.
func (f *Firewall) Install() error {
	ask := probeByListing
	if len(ofFamily(f.rules, "ipv6")) == 0 {
		ask = probeReadOnly
	}
	if err := f.probe(ask); err != nil {
		return err
	}
	// Find everything that can be wrong before changing anything.
	for _, t := range f.tools {
		if len(ofFamily(f.rules, t.family)) == 0 {
			continue
		}
		if _, err := f.at(t, f.table).look(); err != nil {
			return err
		}
	}
	if err := f.install(); err != nil {
		if undo := f.Remove(); undo != nil {
			return fmt.Errorf("%w; something was left behind: %w: run culprit rules remove", err, undo)
		}
		return err
	}
	return nil
}

func (f *Firewall) install() error {
	for _, t := range f.tools {
		mine := ofFamily(f.rules, t.family)
		for _, table := range tables {
			var err error
			if table == f.table && len(mine) > 0 {
				err = f.at(t, table).install(mine)
			} else {
				err = f.removeOwn(f.at(t, table))
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// Remove removes everything of ours from the firewall and nothing else. It is no error if there
// is nothing of ours.
func (f *Firewall) Remove() error {
	if err := f.probe(probeReadOnly); err != nil {
		return err
	}
	var errs []error
	for _, t := range f.tools {
		for _, table := range tables {
			p := f.at(t, table)
			var err error
			if table == f.table {
				_, err = p.remove()
			} else {
				err = f.removeOwn(p)
			}
			errs = append(errs, err)
			if hopeless(err) {
				return errors.Join(errs...)
			}
		}
	}
	return errors.Join(errs...)
}

// removeOwn removes our chain from where we do not want it. A chain of somebody else's that has
// the same name is none of our business there.
func (f *Firewall) removeOwn(p ourChain) error {
	removed, err := p.remove()
	var foreign *foreignError
	if errors.As(err, &foreign) {
		return nil
	}
	if removed {
		f.log.Info("removed a leftover chain", "family", p.family, "table", p.table, "chain", p.name)
	}
	return err
}

func (f *Firewall) at(t tool, table string) ourChain {
	return ourChain{tool: t, table: table, name: f.chain}
}

// probe checks whether ip6tables works on this kernel. If it does not, the Firewall works
// without IPv6 from then on.
func (f *Firewall) probe(ask func(ourChain) error) error {
	i := slices.IndexFunc(f.tools, func(t tool) bool { return t.family == "ipv6" })
	if i < 0 {
		return nil
	}
	err := ask(f.at(f.tools[i], f.table))
	if !unusable(err) {
		return err
	}
	if err := f.doWithout("ipv6", err); err != nil {
		return err
	}
	f.tools = slices.Delete(f.tools, i, i+1)
	return nil
}

// probeByListing probes by listing the table, which creates it under iptables-legacy.
func probeByListing(p ourChain) error {
	_, err := p.ipt.ListChains(p.table)
	return p.explain(err, "list table %s of %s", p.table, p.family)
}

// probeReadOnly probes without creating anything.
func probeReadOnly(p ourChain) error {
	if p.backend == BackendLegacy {
		if exists, err := p.present(p.table); err != nil || !exists {
			return err
		}
	}
	return probeByListing(p)
}
