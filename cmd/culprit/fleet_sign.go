package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"culprit/fleet/sets"
	"culprit/internal/config"
	"culprit/internal/text"
)

// setFlags say what a set is beside its rules.
type setFlags struct {
	key     string
	name    string
	hosts   []string
	last    string // how long it is in force
	version uint64
	broad   bool
}

func (f *setFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.key, "key", "", "secret key that signs, a `file` of culprit fleet keygen or minisign")
	cmd.Flags().StringVar(&f.name, "name", "", "name of the set (default: that of the file)")
	cmd.Flags().StringSliceVar(&f.hosts, "hosts", nil, "only for hosts with such names: a `pattern` such as 'web*' (default: all)")
	cmd.Flags().StringVar(&f.last, "for", "", "how long it is in force, such as 2h or 30d, by the hosts' clocks (default: until it is withdrawn)")
	cmd.Flags().Uint64Var(&f.version, "version-number", 0, "version, a `number` that rises (default: the time, as in 20261127001530)")
	cmd.Flags().BoolVar(&f.broad, "broad", false, "sign rules that nearly every packet matches, too")
}

// number returns that of the version to be made: that of the flags, or one that people can read, and that rises by itself.
func (f *setFlags) number(now time.Time) uint64 {
	if f.version > 0 {
		return f.version
	}
	n, _ := strconv.ParseUint(now.UTC().Format("20060102150405"), 10, 64)
	return n
}

// follow gives a set the version after that of another one, if both were made in the same second. What the servers say of versions is
// not believed further than that: hosts might never take another one.
func (f *setFlags) follow(s, before *sets.Set) {
	const most = 100
	if f.version == 0 && before != nil && before.Version >= s.Version && before.Version < s.Version+most {
		s.Version = before.Version + 1
	}
}

// empty makes the set without rules.
func (f *setFlags) empty(fleet, name string, now time.Time) (*sets.Set, error) {
	s := &sets.Set{Format: sets.Format, Fleet: fleet, Name: name, Version: f.number(now), Created: now.UTC().Truncate(time.Second), Hosts: f.hosts}
	if f.last != "" {
		d, err := config.ParseDuration(f.last)
		if err != nil {
			return nil, usageError{fmt.Errorf("--for: %w", err)}
		}
		if d < time.Minute {
			return nil, usageError{fmt.Errorf("--for: %s is too short: hosts need a moment to take it; allowed: 1m or more", f.last)}
		}
		s.Expires = s.Created.Add(d)
	}
	return s, nil
}

// build makes a set of the rules in a configuration file, after it has named every mistake in it.
func (f *setFlags) build(ctx context.Context, fleet, path string, stderr io.Writer) (*sets.Set, map[string]string, error) {
	c, err := config.Load(path)
	if err != nil {
		return nil, nil, err
	}
	name := f.name
	if name == "" {
		name = strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
	}
	return f.of(ctx, fleet, name, c, stderr)
}

// of makes a set of the rules of a configuration, whose lists are files here.
func (f *setFlags) of(ctx context.Context, fleet, name string, c *config.Config, stderr io.Writer) (*sets.Set, map[string]string, error) {
	s, err := f.empty(fleet, name, time.Now())
	if err != nil {
		return nil, nil, err
	}
	if err := f.narrow(c.Rules); err != nil {
		return nil, nil, err
	}
	all, err := loadLists(ctx, c)
	if err != nil {
		return nil, nil, err
	}
	files := map[string][]sets.File{}
	for _, l := range all {
		printRejects(stderr, l)
		if listed, _ := l.Entries(); listed == 0 {
			return nil, nil, fmt.Errorf("rule %s: its lists have no names", l.Rule)
		}
		for _, file := range l.Files {
			files[l.Rule] = append(files[l.Rule], sets.File{Path: file.Path, Except: file.Except})
		}
	}
	paths, err := s.Build(c.Rules, files)
	return s, paths, err
}

// narrow refuses rules that nearly every packet matches: each user of each host would be traced.
func (f *setFlags) narrow(rules []config.Rule) error {
	if f.broad {
		return nil
	}
	const least = 4 // bytes
	var errs []error
	for _, r := range rules {
		switch p, err := r.Pattern(); {
		case r.IsList() || err != nil:
		case r.Domain != "" && !strings.Contains(strings.Trim(r.Domain, "."), "."):
			errs = append(errs, fmt.Errorf("rule %s: %s is everything below a top-level domain", r.Name, text.Escape(r.Domain)))
		case r.Domain == "" && len(p.Bytes()) < least:
			errs = append(errs, fmt.Errorf("rule %s: %s is in many packets: give %d bytes or more", r.Name, text.Escape(r.String+r.Hex), least))
		}
	}
	if len(errs) > 0 {
		return fmt.Errorf("%w\nEach such packet starts a capture on each host. If that is meant, add --broad", errors.Join(errs...))
	}
	return nil
}

func newFleetSign() *cobra.Command {
	var (
		f   setFlags
		at  fleetFlags
		dir string
	)
	cmd := &cobra.Command{
		Use:   "sign FILE",
		Short: "Sign rules and their lists as a set, for publish",
		Long: `Sign the rules of FILE, a configuration of which only rules is read, with the lists that
they name, as a set for the hosts of a fleet. Every mistake is named before anything is
signed. Nothing is sent: this can be done on a machine without a network.

It writes NAME.json, its signature NAME.json.minisig (minisign -Vm NAME.json -p KEY.pub
verifies it) and, if there are lists, NAME.lists. ` + "`culprit fleet publish NAME.json`" + ` takes
them to the servers.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := at.fleet()
			if err != nil {
				return err
			}
			s, paths, err := f.build(cmd.Context(), b.Name, args[0], cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			signed, err := f.sign(s)
			if err != nil {
				return err
			}
			file, err := writeSigned(dir, s, signed, paths)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: version %d of the set %s, %s, for %s, until %s\n", text.Escape(file), s.Version, s.Name, contents(s), whom(s), until(s))
			return nil
		},
	}
	at.add(cmd)
	f.add(cmd)
	cmd.Flags().StringVarP(&dir, "output", "o", ".", "`directory` for the files")
	return cmd
}

func (f *setFlags) sign(s *sets.Set) (sets.Signed, error) {
	key, err := signingKey(f.key)
	if err != nil {
		return sets.Signed{}, err
	}
	return sets.Sign(s, key)
}

// contents says what is in a set.
func contents(s *sets.Set) string {
	if s.Withdrawn {
		return "withdrawn"
	}
	if s.Ended != nil {
		return "takes " + text.Plural(len(s.Ended), "set") + " back"
	}
	all := text.Plural(len(s.Rules), "rule")
	if len(s.Lists) > 0 {
		all += ", " + text.Plural(len(s.Lists), "list")
	}
	return all
}

// until says when a set ends.
func until(s *sets.Set) string {
	if s.Expires.IsZero() {
		return "it is withdrawn"
	}
	return text.Time(s.Expires)
}

// whom says whom a set is for.
func whom(s *sets.Set) string {
	if len(s.Hosts) == 0 {
		return "all hosts"
	}
	return text.Escape(strings.Join(s.Hosts, ", "))
}

// Names beside NAME.json.
const (
	signatureSuffix = ".minisig"
	listsSuffix     = ".lists"
)

// writeSigned writes a signed set and its lists.
func writeSigned(dir string, s *sets.Set, signed sets.Signed, paths map[string]string) (file string, err error) {
	base := filepath.Join(dir, s.Name)
	if len(s.Lists) > 0 {
		if err := os.MkdirAll(base+listsSuffix, 0o700); err != nil {
			return "", fmt.Errorf("write the lists: %w", err)
		}
	}
	write := func(name string, content io.Reader) error {
		return writeFile(nil, name, func(w io.Writer) error {
			_, err := io.Copy(w, content)
			return err
		})
	}
	for name, path := range paths {
		list, err := os.Open(path)
		if err == nil {
			err = errors.Join(write(filepath.Join(base+listsSuffix, name), list), list.Close())
		}
		if err != nil {
			return "", fmt.Errorf("the list %s: %w", name, err)
		}
	}
	file = base + ".json"
	return file, errors.Join(write(file, bytes.NewReader(signed.Set)), write(file+signatureSuffix, strings.NewReader(signed.Signature)))
}

// readSigned reads what writeSigned has written.
func readSigned(file string) (s *sets.Set, signed sets.Signed, paths map[string]string, err error) {
	if signed.Set, err = os.ReadFile(file); err != nil {
		return nil, signed, nil, fmt.Errorf("read the set: %w", err)
	}
	signature, err := os.ReadFile(file + signatureSuffix)
	if err != nil {
		return nil, signed, nil, fmt.Errorf("read the signature of the set: %w", err)
	}
	signed.Signature = string(signature)
	if s, err = signed.Unverified(); err != nil {
		return nil, signed, nil, fmt.Errorf("read the set %s: %w", file, err)
	}
	paths = map[string]string{}
	for _, l := range s.Lists {
		paths[l.Name] = filepath.Join(strings.TrimSuffix(file, ".json")+listsSuffix, l.Name)
	}
	return s, signed, paths, nil
}
