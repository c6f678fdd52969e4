package main

import (
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"culprit/doctor"
	"culprit/internal/config"
	"culprit/internal/text"
	"culprit/lists"
)

func newCheck() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check the configuration and name every mistake",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := config.Load(path)
			if err != nil {
				looks, failed := config.LoadToLook(path)
				if failed != nil || !looks.Fleet.Enabled() {
					return err
				}
				fmt.Fprintln(cmd.ErrOrStderr(), "warning: rules: there is none: with this configuration you can look at the fleet, but not hunt")
				c = looks
			}
			all, err := loadLists(cmd.Context(), c)
			if err != nil {
				return err
			}
			for _, w := range slices.Concat(c.Warnings(), lists.Warnings(c)) {
				fmt.Fprintf(cmd.ErrOrStderr(), "warning: %s\n", text.Escape(w))
			}
			for _, l := range all {
				printRejects(cmd.ErrOrStderr(), l)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s is good: %s\n", c.Path, text.Plural(len(c.Rules), "rule"))
			for _, l := range all {
				for _, f := range l.Files {
					fmt.Fprintf(cmd.OutOrStdout(), "rule %s: %s: %s, %d rejected (%s)\n", l.Rule, text.Escape(f.Path), text.Plural(f.Entries, "name"), f.Rejects(), written(f))
				}
			}
			return nil
		},
	}
	configFlag(cmd, &path, config.DefaultPath)
	return cmd
}

// printRejects prints the first lines of a rule's lists that are no entries, as compilers do.
func printRejects(w io.Writer, l *lists.List) {
	for _, f := range l.Files {
		for _, r := range f.First {
			fmt.Fprintf(w, "%s:%d: %s: %s\n", text.Escape(f.Path), r.Line, r.Reason, text.Escape(r.Text))
		}
		if more := f.Rejects() - len(f.First); more > 0 && len(f.First) > 0 {
			fmt.Fprintf(w, "%s: %d more are rejected: `culprit lists` counts them by reason\n", text.Escape(f.Path), more)
		}
	}
}

func newDoctor() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Say what works on this machine, and how to fix what does not",
		Long: `Try everything that a hunt needs, for real. The firewall is not touched: rules are
tried in a network namespace that is thrown away. Without -c, the defaults are used.

The exit status is 1 if something that is needed does not work.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			defaults := config.Default()
			c := &defaults
			if path != "" {
				var err error
				if c, err = config.Load(path); err != nil {
					return err
				}
			}
			failed := 0
			for _, check := range doctor.Run(cmd.Context(), c) {
				fmt.Fprintf(cmd.OutOrStdout(), "%-4s  %-18s  %s\n", check.Status, check.Name, text.Escape(check.Found))
				if check.Remedy != "" {
					fmt.Fprintf(cmd.OutOrStdout(), "%24s  -> %s\n", "", text.Escape(check.Remedy))
				}
				if check.Status == doctor.Fail {
					failed++
				}
			}
			if failed > 0 {
				return fmt.Errorf("%s above: a hunt will not work here until that is fixed", text.Plural(failed, "failed check"))
			}
			return nil
		},
	}
	configFlag(cmd, &path, "")
	return cmd
}
