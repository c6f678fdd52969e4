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

// strongerNote returns the note that says more.
func strongerNote(a, b string) string {
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

// ourChain is our chain in one table of one family, whether it exists or not.
type ourChain struct {
	tool
	table string
	name  string
}

func (c ourChain) String() string { return fmt.Sprintf("%s/%s of %s", c.table, c.name, c.family) }

// explain says what was being done when err happened here.
func (c ourChain) explain(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return explain(c.family, c.table, fmt.Errorf(format+": %w", append(args, err)...))
}

// A chainState is what the firewall holds of our chain and its jumps.
type chainState struct {
	exists     bool
	rules      []string // of our chain, as iptables -S prints them
	jumps      []string // the notes of our jumps in OUTPUT, in order
	first      bool     // no rule in OUTPUT before a jump of ours can take a packet away
	onlyOurs   bool     // OUTPUT holds nothing but our jumps, and its policy is ACCEPT
	othersNote string   // the note on the jump of another culprit (see others.go)
	nft        nftTable // the table in nf_tables, read before everything else
}

// ourRule matches the rules that our chain can hold. iptables -S prints the target last, so a
// search pattern cannot look like one.
var ourRule = regexp.MustCompile(`^-A .* -j (?:NFLOG(?: --nflog-[a-z]+ (?:"[^"]*"|[^" ]+))*|MARK --set-xmark 0x[0-9a-f]+/0x[0-9a-f]+)$`)

// A foreignError reports a chain that has our name but belongs to somebody else.
type foreignError struct {
	chain ourChain
	rule  string
}

func (e *foreignError) Error() string {
	return fmt.Sprintf("use chain %s: it is not culprit's, because it holds the rule %q: choose another firewall.chain, or delete that rule", e.chain, e.rule)
}

// look reads what is here of ours. It changes nothing and creates no table. It returns a
// *[foreignError] if a chain of our name belongs to somebody else.
func (c ourChain) look() (chainState, error) {
	var state chainState
	possible, err := c.hasChain(&state)
	if err != nil || !possible {
		return state, err // without the chain there can be no jump to it
	}
	lines, err := c.ipt.List(c.table, c.name)
	var failed *iptables.Error
	if c.backend == BackendLegacy && errors.As(err, &failed) && failed.ExitStatus() == 1 {
		return state, nil
	}
	if err != nil {
		return state, c.explain(err, "list chain %s", c)
	}
	state.exists = true
	for _, line := range lines {
		if !strings.HasPrefix(line, "-A ") {
			continue
		}
		if !ourRule.MatchString(line) {
			return state, &foreignError{c, line}
		}
		state.rules = append(state.rules, line)
	}
	if lines, err = c.ipt.List(c.table, hook); err != nil {
		return state, c.explain(err, "list chain %s/%s of %s", c.table, hook, c.family)
	}
	c.readOthers(&state, lines, state.readHook(lines, c.name))
	return state, nil
}

// hasChain reports whether the chain can exist, without running iptables: exactly for the nft
// flavour, by the table for the other one. (What iptables-nft says about a missing chain
// depends on its version; 1.8.9 calls it "incompatible".)
func (c ourChain) hasChain(state *chainState) (bool, error) {
	if c.backend == BackendLegacy {
		return c.present(c.table)
	}
	var err error
	state.nft, err = readNFT(c.family, c.table)
	return slices.Contains(state.nft.chains, c.name), err
}

// readHook finds our jumps in the output of iptables -S OUTPUT. It returns the rules before the
// first.
func (s *chainState) readHook(lines []string, chain string) (before []string) {
	for _, line := range lines {
		if !strings.HasPrefix(line, "-A ") {
			s.onlyOurs = s.onlyOurs || line == "-P "+hook+" ACCEPT"
			continue
		}
		note, to, ok := readJump(line)
		if !ok || to != chain {
			s.onlyOurs = false
			if len(s.jumps) == 0 {
				before = append(before, line)
			}
			continue
		}
		s.jumps = append(s.jumps, note)
	}
	s.first = len(s.jumps) > 0 && len(before) == 0
	return before
}

// install makes the chain hold exactly the given rules, entered by one jump at the top of
// OUTPUT, among those of other culprits. What is right already stays, with its counters. If
// install fails, remove cleans up.
func (c ourChain) install(rules []Rule) error {
	state, err := c.look()
	if err != nil {
		return err
	}
	if !state.exists && slices.Contains(state.nft.chains, hook) {
		lines, err := c.ipt.List(c.table, hook)
		if err != nil {
			return c.explain(err, "list chain %s/%s of %s", c.table, hook, c.family)
		}
		c.readOthers(&state, lines, nil)
	}
	same, err := c.holds(state, rules)
	if err != nil {
		return err
	}
	if !same {
		if err := c.fill(state, rules); err != nil {
			return err
		}
	}
	note := c.noteFor(state)
	// The jump comes last, so that packets meet a complete chain.
	if state.first && len(state.jumps) == 1 && state.jumps[0] == note {
		return nil
	}
	if err := c.deleteJumps(state); err != nil {
		return err
	}
	err = c.ipt.Insert(c.table, hook, 1, jump(c.name, note)...)
	return c.explain(err, "insert the jump to %s in %s", c, hook)
}

// fill puts the rules into the chain, and creates it if need be. It deletes the old rules last,
// so that no packet that both old and new rules match is missed.
func (c ourChain) fill(state chainState, rules []Rule) error {
	if !state.exists {
		if err := c.ipt.NewChain(c.table, c.name); err != nil {
			return c.explain(err, "create chain %s", c)
		}
	}
	for _, r := range rules {
		if err := c.ipt.Append(c.table, c.name, r.Args...); err != nil {
			return c.explain(err, "append rule %q to %s", r.Name, c)
		}
	}
	for range state.rules {
		if err := c.ipt.DeleteById(c.table, c.name, 1); err != nil {
			return c.explain(err, "delete an earlier rule from %s", c)
		}
	}
	return nil
}

// noteFor returns the note that the jump must have, given the state before: that we made the
// table, its OUTPUT chain, or neither.
func (c ourChain) noteFor(state chainState) string {
	switch {
	case c.backend == BackendLegacy:
		// A legacy table stays as long as its module: nothing to remember.
		return ""
	case slices.Contains(state.jumps, madeTable), state.othersNote == madeTable:
		return madeTable
	case slices.Contains(state.jumps, madeChain), state.othersNote == madeChain:
		return madeChain
	case !state.nft.exists, state.exists && state.nft.holdsOnly(c.name):
		// The second case is what a daemon leaves if it is killed while it installs. (A table
		// of somebody else's without any chain would look the same.)
		return madeTable
	case !slices.Contains(state.nft.chains, hook):
		return madeChain
	}
	return ""
}

// holds reports whether the chain holds exactly the given rules. iptables compares them itself,
// as it prints a rule differently from how it is given.
func (c ourChain) holds(state chainState, rules []Rule) (bool, error) {
	if !state.exists || len(state.rules) != len(rules) {
		return false, nil
	}
	for _, r := range rules {
		exists, err := c.ipt.Exists(c.table, c.name, r.Args...)
		if err != nil {
			return false, c.explain(err, "check rule %q in %s", r.Name, c)
		}
		if !exists {
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
func (c ourChain) remove() (bool, error) {
	for range attempts {
		state, err := c.look()
		if err != nil || !state.exists {
			return false, err
		}
		if !c.ownsTable(state) {
			return c.removeParts(state)
		}
		// In one transaction: a kill leaves everything or nothing.
		err = state.nft.delete()
		if errors.Is(err, unix.ERESTART) {
			continue
		}
		return err == nil, c.explain(err, "delete table %s of %s", c.table, c.family)
	}
	return false, fmt.Errorf("delete table %s of %s: others changed the firewall during each of %d attempts: try again", c.table, c.family, attempts)
}

// ownsTable reports whether the whole nftables table is ours: we made it, and nobody else has
// anything in it.
func (c ourChain) ownsTable(state chainState) bool {
	return c.noteFor(state) == madeTable && state.nft.holdsOnly(c.name, hook) &&
		(state.onlyOurs || !slices.Contains(state.nft.chains, hook))
}

// removeParts removes our parts from a table that is not ours.
func (c ourChain) removeParts(state chainState) (bool, error) {
	if err := c.deleteJumps(state); err != nil {
		return false, err
	}
	if err := c.ipt.ClearAndDeleteChain(c.table, c.name); err != nil {
		return false, c.explain(err, "delete chain %s", c)
	}
	if c.noteFor(state) != "" {
		return true, c.removeHook()
	}
	return true, nil
}

// deleteJumps deletes our jumps anywhere in OUTPUT. It deletes them by content, never by
// number, because others may change the numbers at any moment.
func (c ourChain) deleteJumps(state chainState) error {
	for _, note := range state.jumps {
		if err := c.ipt.Delete(c.table, hook, jump(c.name, note)...); err != nil {
			return c.explain(err, "delete the jump to %s from %s", c, hook)
		}
	}
	return nil
}

// removeHook removes the OUTPUT chain that we made, if nobody else uses it.
func (c ourChain) removeHook() error {
	for range attempts {
		t, err := readNFT(c.family, c.table)
		if err != nil || !slices.Contains(t.chains, hook) {
			return err
		}
		lines, err := c.ipt.List(c.table, hook)
		if err != nil {
			return c.explain(err, "list chain %s/%s of %s", c.table, hook, c.family)
		}
		if !slices.Equal(lines, []string{"-P " + hook + " ACCEPT"}) {
			return nil
		}
		err = t.deleteChain(hook)
		if errors.Is(err, unix.ERESTART) {
			continue
		}
		return c.explain(err, "delete chain %s/%s of %s", c.table, hook, c.family)
	}
	return nil
}
