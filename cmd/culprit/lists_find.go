package main

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"culprit/internal/config"
	"culprit/internal/dnsname"
	"culprit/internal/text"
	"culprit/lists"
	"culprit/lists/format"
)

func newListsTest() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "test NAME...",
		Short: "Say which entries of the lists mean a name",
		Long: `Say which entries of the lists mean a name, in each list that has one, and whether a question
about it would be a hit. The exit status is 1 if none of the names would be one.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError{errors.New("name at least one domain, such as evil.example")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := config.Load(path)
			if err != nil {
				return err
			}
			c = withSets(c, cmd.ErrOrStderr())
			if err := lists.Check(c); err != nil {
				return err
			}
			verdicts, err := testNames(c, args)
			if err != nil {
				return err
			}
			hits := 0
			for _, v := range verdicts {
				if v.hit() {
					hits++
				}
				fmt.Fprint(cmd.OutOrStdout(), v)
			}
			if hits == 0 {
				return exitStatus(exitTrouble)
			}
			return nil
		},
	}
	configFlag(cmd, &path, config.DefaultPath)
	return cmd
}

// A verdict is what the lists of all rules say about one name.
type verdict struct {
	name  string
	rules []ruling
}

// A ruling is what those of one rule say.
type ruling struct {
	rule             string
	listed, excepted []string // entries, as they are shown
}

func (r ruling) hit() bool { return len(r.listed) > 0 && len(r.excepted) == 0 }

func (v verdict) hit() bool {
	for _, r := range v.rules {
		if r.hit() {
			return true
		}
	}
	return false
}

func (v verdict) String() (s string) {
	for _, r := range v.rules {
		switch {
		case r.hit():
			s += fmt.Sprintf("%s: a hit of rule %s\n", text.Escape(v.name), r.rule)
		case len(r.listed) > 0:
			s += fmt.Sprintf("%s: no hit of rule %s, as it is an exception\n", text.Escape(v.name), r.rule)
		default:
			continue
		}
		for _, entry := range r.listed {
			s += "  listed    " + entry + "\n"
		}
		for _, entry := range r.excepted {
			s += "  excepted  " + entry + "\n"
		}
	}
	if s == "" {
		s = fmt.Sprintf("%s: on no list\n", text.Escape(v.name))
	}
	return s
}

// testNames reads all lists once.
func testNames(c *config.Config, args []string) ([]verdict, error) {
	all := make([]verdict, len(args))
	at := map[string][]*verdict{}
	var names []string
	for i, arg := range args {
		name, err := dnsname.ASCII(arg)
		if err != nil {
			return nil, usageError{fmt.Errorf("%q: %w", arg, err)}
		}
		all[i].name = arg
		if at[name] == nil {
			names = append(names, name)
		}
		at[name] = append(at[name], &all[i])
	}
	for _, r := range c.Rules {
		if !r.IsList() {
			continue
		}
		for i := range all {
			all[i].rules = append(all[i].rules, ruling{rule: r.Name})
		}
		err := lists.Search(r, names, func(name, path string, e format.Entry) {
			for _, v := range at[name] {
				v.rules[len(v.rules)-1].add(path, e)
			}
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

func (r *ruling) add(path string, e format.Entry) {
	entry := fmt.Sprintf("%s:%d %s (%s)", filepath.Base(path), e.Line, e.Name, e.Kind)
	if e.Comment != "" {
		entry += " # " + e.Comment
	}
	to := &r.listed
	if e.Except {
		to = &r.excepted
	}
	*to = append(*to, text.Escape(entry))
}
