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

// hook is the built-in chain that packets of local processes go through; only
// there the kernel still knows who sends them.
const hook = "OUTPUT"

// What a jump says about what we brought to life with it in nf_tables, so that
// whoever removes it knows, even after the daemon was killed. Our rules leave no
// other trace to keep that in.
const (
	madeTable = "culprit made this table"
	madeChain = "culprit made this OUTPUT chain"
)

// notes are all that a jump of ours may say; most say nothing. Each tells of less than the
// next: who made the table made the chain in it.
var notes = [...]string{"", madeChain, madeTable}

// further returns which of two notes tells of more.
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

// A place is where our chain is or would be: one table of one family.
type place struct {
	tool
	table string
	chain string
}

func (p place) String() string { return fmt.Sprintf("%s/%s of %s", p.table, p.chain, p.family) }

// explain says what was being done at this place when err happened.
func (p place) explain(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return explain(p.family, p.table, fmt.Errorf(format+": %w", append(args, err)...))
}

// A found is what of ours is at a place.
type found struct {
	chain  bool
	rules  []string // in our chain, as iptables -S prints them
	jumps  []string // the notes of our jumps in OUTPUT, in their order
	first  bool     // nothing in OUTPUT can take a packet away before a jump of ours
	alone  bool     // OUTPUT holds nothing but our jumps, and its policy is ACCEPT
	beside string   // the note of another culprit's jump, see others
	nft    nftTable // what nf_tables has, looked at before all the rest
}

// nflogRule is a rule as it may stand in our chain. The target is the last thing
// that iptables -S prints of a rule, so a pattern cannot be mistaken for it.
var nflogRule = regexp.MustCompile(`^-A .* -j NFLOG(?: --nflog-[a-z]+ (?:"[^"]*"|[^" ]+))*$`)

// A foreignError tells of a chain that bears our name and is somebody else's.
type foreignError struct {
	place place
	rule  string
}

func (e *foreignError) Error() string {
	return fmt.Sprintf("use chain %s: it is not culprit's, because it holds the rule %q: choose another firewall.chain, or delete that rule", e.place, e.rule)
}

// look finds what of ours is here. It changes nothing, and does not bring the
// table to life. A chain of our name that is not ours is a *[foreignError].
func (p place) look() (found, error) {
	var f found
	there, err := p.hasChain(&f)
	if err != nil || !there {
		return f, err // without the chain there is no jump to it either
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

// hasChain reports whether the chain can be here, as far as one can tell without
// running iptables: for the nft flavour exactly, for the other one by the table.
// (What iptables-nft says of a chain that is not there depends on its version;
// 1.8.9 calls it "incompatible".)
func (p place) hasChain(f *found) (bool, error) {
	if p.backend == BackendLegacy {
		return p.present(p.table)
	}
	var err error
	f.nft, err = readNFT(p.family, p.table)
	return slices.Contains(f.nft.chains, p.chain), err
}

// readHook finds our jumps in what iptables -S OUTPUT printed. It returns the rules
// before the first.
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

// install makes the chain hold exactly the given rules, and one jump at the top
// of OUTPUT, among those of other culprits, enter it. What is right already stays,
// with its counters. If it fails, what is left is for remove.
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
	// The jump comes last: packets meet a chain that is complete.
	if f.first && len(f.jumps) == 1 && f.jumps[0] == note {
		return nil
	}
	if err := p.deleteJumps(f); err != nil {
		return err
	}
	err = p.ipt.Insert(p.table, hook, 1, jump(p.chain, note)...)
	return p.explain(err, "insert the jump to %s in %s", p, hook)
}

// fill puts the rules into the chain, which it creates if need be. What the chain
// holds before goes last, so that no packet that both look for is missed.
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

// noteFor decides what the jump must say, going by what was found before: that we
// make the table, its OUTPUT chain, or neither.
func (p place) noteFor(f found) string {
	switch {
	case p.backend == BackendLegacy:
		// Its tables stay for as long as their module does: nothing to remember.
		return ""
	case slices.Contains(f.jumps, madeTable), f.beside == madeTable:
		return madeTable
	case slices.Contains(f.jumps, madeChain), f.beside == madeChain:
		return madeChain
	case !f.nft.exists, f.chain && f.nft.holdsOnly(p.chain):
		// The second is what a daemon leaves that is killed while it installs.
		// (Somebody's table without any chain would look the same then.)
		return madeTable
	case !slices.Contains(f.nft.chains, hook):
		return madeChain
	}
	return ""
}

// holds reports whether the chain holds exactly the given rules. The rules are
// compared by iptables itself: it prints them in other words than it takes.
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

// attempts is how often a change is tried that is refused because others change
// the firewall at the same time.
const attempts = 20

// remove removes the jumps, the chain, and what we brought to life for them. It
// reports whether there was anything.
func (p place) remove() (bool, error) {
	for range attempts {
		f, err := p.look()
		if err != nil || !f.chain {
			return false, err
		}
		if !p.ownsTable(f) {
			return p.removeParts(f)
		}
		// In one stroke: being killed leaves all or nothing.
		err = f.nft.delete()
		if errors.Is(err, unix.ERESTART) {
			continue
		}
		return err == nil, p.explain(err, "delete table %s of %s", p.table, p.family)
	}
	return false, fmt.Errorf("delete table %s of %s: others changed the firewall during each of %d attempts: try again", p.table, p.family, attempts)
}

// ownsTable reports whether the whole nftables table is ours: we made it, and
// nothing in it is anybody else's.
func (p place) ownsTable(f found) bool {
	return p.noteFor(f) == madeTable && f.nft.holdsOnly(p.chain, hook) &&
		(f.alone || !slices.Contains(f.nft.chains, hook))
}

// removeParts removes what is ours from a table that is not.
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

// deleteJumps deletes our jumps, wherever in OUTPUT they are. It names them by
// what they say, never by their number, which others may change at any moment.
func (p place) deleteJumps(f found) error {
	for _, note := range f.jumps {
		if err := p.ipt.Delete(p.table, hook, jump(p.chain, note)...); err != nil {
			return p.explain(err, "delete the jump to %s from %s", p, hook)
		}
	}
	return nil
}

// removeHook removes the OUTPUT chain that we made, if nobody uses it.
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
