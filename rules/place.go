package rules

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/coreos/go-iptables/iptables"
	"golang.org/x/sys/unix"
)

// hook is the built-in chain for packets of local processes. Only there does the kernel still
// know who sends them.
const hook = "OUTPUT"

// The comment on our jump says what we created in nf_tables, so that whoever removes the jump
// knows, even after the daemon was killed. There is no other place to keep this.
const (
	madeTable = "culprit made this table"
	madeChain = "culprit made this OUTPUT chain"
)

// notes are all comments that our jump can have, each saying more than the one before: who made
// the table made the chain in it. Most jumps have none.
var notes = [...]string{"", madeChain, madeTable}

// further returns the note that says more.
func further(a, b string) string {
	if slices.Index(notes[:], a) > slices.Index(notes[:], b) {
		return a
	}
	return b
}

// jump is the rule in OUTPUT that enters our chain.
func jump(chain, note string) []string {
	if note == "" {
		return []string{"-j", chain}
	}
	return []string{"-m", "comment", "--comment", note, "-j", chain}
}

// A place is where our chain is or would be: in one table of one family.
type place struct {
	tool
	table string
	chain string
}

func (p place) String() string { return fmt.Sprintf("%s/%s of %s", p.table, p.chain, p.family) }

// explain says what was being done when err happened here.
func (p place) explain(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return explain(p.family, p.table, fmt.Errorf(format+": %w", append(args, err)...))
}

// A found is what a place holds of ours.
type found struct {
	chain  bool
	rules  []string // of our chain, as iptables -S prints them
	jumps  []string // the notes of our jumps in OUTPUT, in order
	first  bool     // no rule in OUTPUT before a jump of ours can take a packet away
	alone  bool     // OUTPUT holds nothing but our jumps, and its policy is ACCEPT
	beside string   // the note on the jump of another culprit (see others.go)
	nft    nftTable // the table in nf_tables, read before everything else
}

// nflogRule matches the rules that our chain can hold. iptables -S prints the target last, so a
// search pattern cannot look like one.
var nflogRule = regexp.MustCompile(`^-A .* -j NFLOG(?: --nflog-[a-z]+ (?:"[^"]*"|[^" ]+))*$`)

// A foreignError reports a chain that has our name but belongs to somebody else.
type foreignError struct {
	place place
	rule  string
}

func (e *foreignError) Error() string {
	return fmt.Sprintf("use chain %s: it is not culprit's, because it holds the rule %q: choose another firewall.chain, or delete that rule", e.place, e.rule)
}

// look reads what is here of ours. It changes nothing and creates no table. It returns a
// *[foreignError] if a chain of our name belongs to somebody else.
func (p place) look() (found, error) {
	var f found
	there, err := p.hasChain(&f)
	if err != nil || !there {
		return f, err // without the chain there can be no jump to it
	}
	lines, err := p.ipt.List(p.table, p.chain)
	var failed *iptables.Error
	if p.backend == BackendLegacy && errors.As(err, &failed) && failed.ExitStatus() == 1 {
		return f, nil
	}
	if err != nil {
		return f, p.explain(err, "list chain %s", p)
	}
	f.chain = true
	for _, line := range lines {
		if !strings.HasPrefix(line, "-A ") {
			continue
		}
		if !nflogRule.MatchString(line) {
			return f, &foreignError{p, line}
		}
		f.rules = append(f.rules, line)
	}
	if lines, err = p.ipt.List(p.table, hook); err != nil {
		return f, p.explain(err, "list chain %s/%s of %s", p.table, hook, p.family)
	}
	p.readOthers(&f, lines, f.readHook(lines, p.chain))
	return f, nil
}

// hasChain reports whether the chain can exist, without running iptables: exactly for the nft
// flavour, by the table for the other one. (What iptables-nft says about a missing chain
// depends on its version; 1.8.9 calls it "incompatible".)
func (p place) hasChain(f *found) (bool, error) {
	if p.backend == BackendLegacy {
		return p.present(p.table)
	}
	var err error
	f.nft, err = readNFT(p.family, p.table)
	return slices.Contains(f.nft.chains, p.chain), err
}

// readHook finds our jumps in the output of iptables -S OUTPUT. It returns the rules before the
// first.
func (f *found) readHook(lines []string, chain string) (before []string) {
	for _, line := range lines {
		if !strings.HasPrefix(line, "-A ") {
			f.alone = f.alone || line == "-P "+hook+" ACCEPT"
			continue
		}
		note, to, ok := readJump(line)
		if !ok || to != chain {
			f.alone = false
			if len(f.jumps) == 0 {
				before = append(before, line)
			}
			continue
		}
		f.jumps = append(f.jumps, note)
	}
	f.first = len(f.jumps) > 0 && len(before) == 0
	return before
}

// install makes the chain hold exactly the given rules, entered by one jump at the top of
// OUTPUT, among those of other culprits. What is right already stays, with its counters. If
// install fails, remove cleans up.
func (p place) install(rules []Rule) error {
	f, err := p.look()
	if err != nil {
		return err
	}
	if !f.chain && slices.Contains(f.nft.chains, hook) {
		lines, err := p.ipt.List(p.table, hook)
		if err != nil {
			return p.explain(err, "list chain %s/%s of %s", p.table, hook, p.family)
		}
		p.readOthers(&f, lines, nil)
	}
	same, err := p.holds(f, rules)
	if err != nil {
		return err
	}
	if !same {
		if err := p.fill(f, rules); err != nil {
			return err
		}
	}
	note := p.noteFor(f)
	// The jump comes last, so that packets meet a complete chain.
	if f.first && len(f.jumps) == 1 && f.jumps[0] == note {
		return nil
	}
	if err := p.deleteJumps(f); err != nil {
		return err
	}
	err = p.ipt.Insert(p.table, hook, 1, jump(p.chain, note)...)
	return p.explain(err, "insert the jump to %s in %s", p, hook)
}

// fill puts the rules into the chain, and creates it if need be. It deletes the old rules last,
// so that no packet that both old and new rules match is missed.
func (p place) fill(f found, rules []Rule) error {
	if !f.chain {
		if err := p.ipt.NewChain(p.table, p.chain); err != nil {
			return p.explain(err, "create chain %s", p)
		}
	}
	for _, r := range rules {
		if err := p.ipt.Append(p.table, p.chain, r.Args...); err != nil {
			return p.explain(err, "append rule %q to %s", r.Name, p)
		}
	}
	for range f.rules {
		if err := p.ipt.DeleteById(p.table, p.chain, 1); err != nil {
			return p.explain(err, "delete an earlier rule from %s", p)
		}
	}
	return nil
}

// noteFor returns the note that the jump must have, given the state before: that we made the
// table, its OUTPUT chain, or neither.
func (p place) noteFor(f found) string {
	switch {
	case p.backend == BackendLegacy:
		// A legacy table stays as long as its module: nothing to remember.
		return ""
	case slices.Contains(f.jumps, madeTable), f.beside == madeTable:
		return madeTable
	case slices.Contains(f.jumps, madeChain), f.beside == madeChain:
		return madeChain
	case !f.nft.exists, f.chain && f.nft.holdsOnly(p.chain):
		// The second case is what a daemon leaves if it is killed while it installs. (A table
		// of somebody else's without any chain would look the same.)
		return madeTable
	case !slices.Contains(f.nft.chains, hook):
		return madeChain
	}
	return ""
}

// holds reports whether the chain holds exactly the given rules. iptables compares them itself,
// as it prints a rule differently from how it is given.
func (p place) holds(f found, rules []Rule) (bool, error) {
	if !f.chain || len(f.rules) != len(rules) {
		return false, nil
	}
	for _, r := range rules {
		there, err := p.ipt.Exists(p.table, p.chain, r.Args...)
		if err != nil {
			return false, p.explain(err, "check rule %q in %s", r.Name, p)
		}
		if !there {
			return false, nil
		}
	}
	return true, nil
}

// attempts is how often a change is tried that the kernel refuses because others are changing
// the firewall at the same time.
const attempts = 20

// remove removes the jumps, the chain, and what we created for them. It reports whether there
// was anything to remove.
func (p place) remove() (bool, error) {
	for range attempts {
		f, err := p.look()
		if err != nil || !f.chain {
			return false, err
		}
		if !p.ownsTable(f) {
			return p.removeParts(f)
		}
		// In one transaction: a kill leaves everything or nothing.
		err = f.nft.delete()
		if errors.Is(err, unix.ERESTART) {
			continue
		}
		return err == nil, p.explain(err, "delete table %s of %s", p.table, p.family)
	}
	return false, fmt.Errorf("delete table %s of %s: others changed the firewall during each of %d attempts: try again", p.table, p.family, attempts)
}

// ownsTable reports whether the whole nftables table is ours: we made it, and nobody else has
// anything in it.
func (p place) ownsTable(f found) bool {
	return p.noteFor(f) == madeTable && f.nft.holdsOnly(p.chain, hook) &&
		(f.alone || !slices.Contains(f.nft.chains, hook))
}

// removeParts removes our parts from a table that is not ours.
func (p place) removeParts(f found) (bool, error) {
	if err := p.deleteJumps(f); err != nil {
		return false, err
	}
	if err := p.ipt.ClearAndDeleteChain(p.table, p.chain); err != nil {
		return false, p.explain(err, "delete chain %s", p)
	}
	if p.noteFor(f) != "" {
		return true, p.removeHook()
	}
	return true, nil
}

// deleteJumps deletes our jumps anywhere in OUTPUT. It deletes them by content, never by
// number, because others may change the numbers at any moment.
func (p place) deleteJumps(f found) error {
	for _, note := range f.jumps {
		if err := p.ipt.Delete(p.table, hook, jump(p.chain, note)...); err != nil {
			return p.explain(err, "delete the jump to %s from %s", p, hook)
		}
	}
	return nil
}

// removeHook removes the OUTPUT chain that we made, if nobody else uses it.
func (p place) removeHook() error {
	for range attempts {
		t, err := readNFT(p.family, p.table)
		if err != nil || !slices.Contains(t.chains, hook) {
			return err
		}
		lines, err := p.ipt.List(p.table, hook)
		if err != nil {
			return p.explain(err, "list chain %s/%s of %s", p.table, hook, p.family)
		}
		if !slices.Equal(lines, []string{"-P " + hook + " ACCEPT"}) {
			return nil
		}
		err = t.deleteChain(hook)
		if errors.Is(err, unix.ERESTART) {
			continue
		}
		return p.explain(err, "delete chain %s/%s of %s", p.table, hook, p.family)
	}
	return nil
}
