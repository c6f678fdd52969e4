package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"culprit/evidence/catalogue"
	"culprit/internal/config"
	"culprit/internal/text"
	"culprit/lists"
	"culprit/lists/format"
)

func newLists() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "lists",
		Short: "Show the lists of domains that rules look for, as they would be loaded now",
		Long: `Show the lists of domains that rules look for, as they would be loaded now: how they were
read, how old they are, how many lines are no entries and why, and how many hits the
evidence has of each. What a running daemon has loaded is in its log and its metrics.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := config.Load(path)
			if err != nil {
				return err
			}
			c = withSets(c, cmd.ErrOrStderr())
			all, err := loadLists(cmd.Context(), c)
			if err != nil {
				return err
			}
			return printLists(cmd.OutOrStdout(), all, listHits(c.Evidence.Dir))
		},
	}
	configFlag(cmd, &path, config.DefaultPath)
	cmd.AddCommand(newListsUpdate(), newListsTest(), newListsImport())
	return cmd
}

// loadLists loads all lists of a configuration, in the order of the rules.
func loadLists(ctx context.Context, c *config.Config) (all []*lists.List, err error) {
	if err := lists.Check(c); err != nil {
		return nil, err
	}
	loaded, _, err := lists.LoadAll(ctx, c.Rules, nil, os.TempDir())
	if err != nil {
		return nil, err
	}
	for _, r := range c.Rules {
		if l := loaded[r.Name]; l != nil {
			all = append(all, l)
		}
	}
	return all, nil
}

// listHits counts the hits of each list in the evidence. It is nil if there is no evidence that we can read.
func listHits(evidence string) map[string]int {
	r, err := catalogue.OpenReader(evidence)
	if err != nil {
		return nil
	}
	defer r.Close()
	hits, err := r.Lists()
	if err != nil {
		return nil
	}
	return hits
}

func printLists(w io.Writer, all []*lists.List, hits map[string]int) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "RULE\tLIST\tFORMAT\tENTRIES\tREJECTED\tAGE\tHITS")
	for _, l := range all {
		for _, f := range l.Files {
			found := "-"
			if hits != nil && !f.Except {
				found = strconv.Itoa(hits[f.Path])
			}
			fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%d\t%s\t%s\n", l.Rule, text.Escape(f.Path), written(f), f.Entries, f.Rejects(), age(time.Since(f.Changed)), found)
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, l := range all {
		fmt.Fprintf(w, "\nrule %s: %s, loaded in %s, %s\n", l.Rule, counted(l), l.Took.Round(time.Millisecond), memory(l))
		for _, f := range l.Files {
			if f.Rejects() > 0 {
				fmt.Fprintf(w, "  rejected in %s: %s\n", text.Escape(f.Path), reasons(f.Rejected))
			}
		}
	}
	return nil
}

// written says how a file is written, and what for.
func written(f lists.File) string {
	if f.Except {
		return string(f.Format) + ", exceptions"
	}
	return string(f.Format)
}

// counted says how many different names a rule has.
func counted(l *lists.List) string {
	listed, excepted := l.Entries()
	s := text.Plural(listed, "name")
	if excepted > 0 {
		s += " and " + text.Plural(excepted, "exception")
	}
	return s
}

// memory says what a rule takes: its filters are asked for every question, the rest only for what passes them.
func memory(l *lists.List) string {
	filters := len(l.Set.Filter().Fingerprints) + len(l.Set.Exceptions().Fingerprints)
	return fmt.Sprintf("%s, of which %s stay in memory", text.Size(l.Set.Size()), text.Size(int64(4*filters)))
}

// reasons lists why lines are no entries, the most frequent reason first.
func reasons(rejected map[format.Reason]int) string {
	var all []string
	byNumber := func(a, b format.Reason) int { return rejected[b] - rejected[a] }
	for _, reason := range slices.SortedStableFunc(slices.Values(slices.Sorted(maps.Keys(rejected))), byNumber) {
		all = append(all, fmt.Sprintf("%d %s", rejected[reason], reason))
	}
	return strings.Join(all, "; ")
}

// age writes how long ago something was, with one unit.
func age(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", max(0, d/time.Second))
	case d < time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dd", d/(24*time.Hour))
}
