package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"culprit/internal/config"
	"culprit/internal/stopped"
	"culprit/internal/text"
	"culprit/rules"
	"culprit/sensor"
)

func newRules() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rules",
		Short: "Print, install, remove or show the firewall rules by hand",
		Long: `Print, install, remove or show the firewall rules by hand. "culprit run" installs and
removes them itself. If a daemon was killed, "culprit rules remove" removes its rules.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usageError{errors.New("rules needs one of print, install, remove, status")}
		},
	}
	cmd.AddCommand(newRulesPrint(), newRulesInstall(), newRulesRemove(), newRulesStatus())
	return cmd
}

func newRulesPrint() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "print",
		Short: "Print the commands that would install the rules, but run none",
		Long: `Print the commands that would install the rules, but run none. With "sensor: rule" or
"sensor: mark" a daemon adds to its rules what its sensor needs, which is not shown: only
a running daemon has a sensor.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := config.Load(path)
			if err != nil {
				return err
			}
			lines, err := rules.Commands(c)
			if err != nil {
				return err
			}
			for _, line := range lines {
				fmt.Fprintln(cmd.OutOrStdout(), line)
			}
			return nil
		},
	}
	configFlag(cmd, &path, config.DefaultPath)
	return cmd
}

func newRulesInstall() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Install the rules; until culprit runs, nobody reads the packets they log",
		Long: `Install the rules; until culprit runs, nobody reads the packets they log. They are those
of "culprit rules print". Rules of a running daemon stay as they are, with what they do for
its sensor.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, f, err := openFirewall(path, "culprit rules install", cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			return f.Install()
		},
	}
	configFlag(cmd, &path, config.DefaultPath)
	return cmd
}

func newRulesRemove() *cobra.Command {
	var path, chain string
	cmd := &cobra.Command{
		Use:   "remove",
		Short: "Remove culprit's chain and the jumps to it from every table; needs no configuration",
		Long: `Remove culprit's chain and the jumps to it from every table, and what a killed daemon left
pinned in the BPF file system. Programs that it left stopped go on. It needs no configuration.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if path != "" && cmd.Flags().Changed("chain") {
				return usageError{errors.New("give --chain or --config, not both")}
			}
			if path != "" {
				c, err := config.LoadToLook(path)
				if err != nil {
					return err
				}
				chain = c.Firewall.Chain
			}
			if err := needRoot("culprit rules remove"); err != nil {
				return err
			}
			n, err := rules.Clean(chain, messages(cmd.ErrOrStderr()))
			// A daemon that was killed with its helpers may have left programs stopped, too.
			err = errors.Join(err, stopped.Sweep(stopped.Dir), sensor.LetGoLeft())
			fmt.Fprintf(cmd.OutOrStdout(), "removed %s named %s\n", text.Plural(n, "chain"), chain)
			if err == nil {
				err = sensor.RemovePins(chain)
			}
			return err
		},
	}
	configFlag(cmd, &path, "")
	cmd.Flags().StringVar(&chain, "chain", config.Default().Firewall.Chain, "`name` of the chain, if it is not that of -c")
	return cmd
}

func newRulesStatus() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the installed rules and how many packets they matched",
		Long: `Show the installed rules and how many packets they matched. The exit status is 1 if
they are not all in place.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, f, err := openFirewall(path, "culprit rules status", cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			s, err := f.Status()
			if err != nil {
				return err
			}
			printStatus(cmd.OutOrStdout(), s)
			if !s.Healthy() {
				return fmt.Errorf("the rules of %s are not all in place: start culprit run, or culprit rules install", c.Path)
			}
			return nil
		},
	}
	configFlag(cmd, &path, config.DefaultPath)
	return cmd
}

func printStatus(w io.Writer, s rules.Status) {
	for _, f := range s.Families {
		place := fmt.Sprintf("%s (%s): table %s, chain %s", f.Family, f.Backend, s.Table, s.Chain)
		switch {
		case !f.Chain:
			fmt.Fprintf(w, "%s does not exist\n", place)
			continue
		case f.Jumps == 0:
			fmt.Fprintf(w, "%s, but no jump in OUTPUT enters it\n", place)
		case f.Jumps > 1 || !f.First:
			fmt.Fprintf(w, "%s, entered by %s in OUTPUT, before all rules of others: %t\n", place, text.Plural(f.Jumps, "jump"), f.First)
		default:
			fmt.Fprintf(w, "%s, entered first in OUTPUT\n", place)
		}
		table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "  RULE\tPACKETS\tBYTES\tMATCH")
		for _, r := range f.Rules {
			fmt.Fprintf(table, "  %s\t%s\t%s\t%s\n", text.Escape(r.Name), strconv.FormatUint(r.Packets, 10), strconv.FormatUint(r.Bytes, 10), text.Escape(r.Match))
		}
		table.Flush()
	}
}

func openFirewall(path, what string, stderr io.Writer) (*config.Config, *rules.Firewall, error) {
	c, err := config.Load(path)
	if err != nil {
		return nil, nil, err
	}
	if err := needRoot(what); err != nil {
		return nil, nil, err
	}
	c = withSets(c, stderr)
	f, err := rules.NewInstalled(c, messages(stderr))
	return c, f, err
}

// messages returns a logger of warnings for people, for short commands.
func messages(w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelWarn}))
}
