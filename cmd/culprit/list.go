package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"culprit/evidence/catalogue"
	"culprit/internal/config"
	"culprit/internal/event"
	"culprit/internal/text"
	"culprit/internal/words"
)

// listFlags are the flags that the three lists share.
type listFlags struct {
	source
	since, user string
	filter      catalogue.Filter
	json        bool
}

// tableRows is how many rows a table has without --number.
const tableRows = 200

func (f *listFlags) add(cmd *cobra.Command) {
	f.source.add(cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.since, "since", "", "only at this `time` or later: 90s, 2h, 7d, 2026-01-31, \"2026-01-31 15:04\" or RFC 3339")
	fl.StringVar(&f.user, "user", "", "only this `user`, by name or UID")
	fl.StringVar(&f.filter.Rule, "rule", "", "only this `rule`")
	fl.StringVar(&f.filter.Host, "host", "", "only this `host` of a fleet")
	addPlace(fl, &f.filter.Place)
	fl.StringVar(&f.filter.Capture, "capture", "", "only the capture with this `ID`; its first or last characters are enough")
	fl.IntVarP(&f.filter.Last, "number", "n", tableRows, "only the last `N`; 0: all (with --json the default is all)")
	fl.BoolVar(&f.json, "json", false, "print JSON Lines with the names of the Elastic Common Schema")
}

// addPlace adds the flags that select by container.
func addPlace(fl *pflag.FlagSet, to *catalogue.Place) {
	fl.StringVar(&to.Container, "container", "", "only in the container with this `name`, or whose id begins so")
	fl.StringVar(&to.Pod, "pod", "", "only in this `pod`: NAME, NAMESPACE/NAME or its id")
	fl.StringVar(&to.Image, "image", "", "only in containers whose image has this `text` in its name")
}

// parse completes the filter from the flags.
func (f *listFlags) parse(cmd *cobra.Command) error {
	if f.since != "" {
		t, err := text.Since(f.since, time.Now())
		if err != nil {
			return usageError{fmt.Errorf("--since %w", err)}
		}
		f.filter.Since = t
	}
	if f.user != "" {
		u, err := config.ParseUser(f.user)
		if err != nil {
			return usageError{err}
		}
		f.filter.UID = &u.UID
	}
	if f.filter.Last < 0 {
		return usageError{errors.New("--number must not be negative")}
	}
	if f.json && !cmd.Flags().Changed("number") {
		f.filter.Last = 0
	}
	return nil
}

// resolve completes an abbreviated --capture.
func (f *listFlags) resolve(r *catalogue.Reader) error {
	if f.filter.Capture == "" {
		return nil
	}
	found, err := r.Find(f.filter.Capture)
	if err != nil {
		return err
	}
	c := found.Capture
	if c == nil {
		return fmt.Errorf("%s is not a capture: take one from `culprit captures`", f.filter.Capture)
	}
	f.filter.Capture = c.Event.ID
	return nil
}

// knowsRule returns an error if --rule names a rule that nothing in the evidence is of.
func (f *listFlags) knowsRule(r *catalogue.Reader) error {
	if f.filter.Rule == "" {
		return nil
	}
	for _, err := range r.Hits(catalogue.Filter{Rule: f.filter.Rule}) {
		return err // there is one
	}
	known, err := r.Rules()
	switch {
	case err != nil || slices.Contains(known, f.filter.Rule):
		return err
	case len(known) == 0:
		return fmt.Errorf("no rule %q: the evidence has no hits yet", f.filter.Rule)
	}
	return fmt.Errorf("no rule %q in the evidence: there are %s", f.filter.Rule, text.Escape(strings.Join(known, ", ")))
}

// newList makes one of the list commands.
func newList[T any](from source, use, short, header string, query func(*catalogue.Reader, catalogue.Filter) iter.Seq2[T, error], row func(*T) []string, host func(*T) *event.Host) *cobra.Command {
	f := listFlags{source: from}
	cmd := &cobra.Command{
		Use:   use,
		Short: short,
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.parse(cmd); err != nil {
				return err
			}
			r, err := f.read(cmd)
			if err != nil {
				return err
			}
			defer r.Close()
			if err := f.resolve(r); err != nil {
				return err
			}
			if err := f.knowsRule(r); err != nil {
				return err
			}
			rows := query(r, f.filter)
			if f.json {
				return printJSON(cmd.OutOrStdout(), rows)
			}
			header, row := header, row
			if mirrors, err := r.Mirrors(); err != nil {
				return err
			} else if len(mirrors) > 0 {
				header, row = withHost(header, row, host)
			}
			n, err := printTable(cmd.OutOrStdout(), header, rows, row)
			if err != nil {
				return err
			}
			if n == f.filter.Last && n > 0 {
				fmt.Fprintf(cmd.ErrOrStderr(), "these are the last %d; --number 0 shows all\n", n)
			}
			return warnOfLosses(cmd.ErrOrStderr(), r, f.filter)
		},
	}
	f.add(cmd)
	if use == "hits" {
		cmd.Flags().StringVar(&f.filter.Name, "name", "", "only questions for this `domain`, or for a name below it")
		cmd.Flags().StringVar(&f.filter.List, "list", "", "only names on this `list`, by the name of its file or by its path")
	}
	return cmd
}

// withHost adds a column for the host to a table of a fleet.
func withHost[T any](header string, row func(*T) []string, host func(*T) *event.Host) (string, func(*T) []string) {
	first, rest, _ := strings.Cut(header, "\t")
	return first + "\tHOST\t" + rest, func(v *T) []string {
		name := "-" // the mirror itself
		if h := host(v); h != nil {
			name = h.Name
		}
		return slices.Insert(row(v), 1, name)
	}
}

func printJSON[T any](w io.Writer, rows iter.Seq2[T, error]) error {
	enc := json.NewEncoder(text.JSONWriter(w))
	enc.SetEscapeHTML(false)
	for v, err := range rows {
		if err != nil {
			return err
		}
		if err := enc.Encode(v); err != nil {
			return fmt.Errorf("print: %w", err)
		}
	}
	return nil
}

// printTable prints rows as a table, with columns as wide as needed. It escapes foreign text.
func printTable[T any](w io.Writer, header string, rows iter.Seq2[T, error], row func(*T) []string) (n int, err error) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, header)
	for v, err := range rows {
		if err != nil {
			return n, err
		}
		cells := row(&v)
		for i, c := range cells {
			cells[i] = text.Escape(c)
		}
		fmt.Fprintln(table, strings.Join(cells, "\t"))
		n++
	}
	if err := table.Flush(); err != nil && !errors.Is(err, os.ErrClosed) {
		return n, fmt.Errorf("print: %w", err)
	}
	return n, nil
}

// warnOfLosses prints below a list what the list lacks.
func warnOfLosses(w io.Writer, r *catalogue.Reader, f catalogue.Filter) error {
	total := map[event.LossDetail]uint64{} // by what was lost, without a count
	for l, err := range r.Losses(catalogue.Filter{Since: f.Since, Host: f.Host}) {
		if err != nil {
			return err
		}
		total[event.LossDetail{Code: l.Culprit.Code, Detail: l.Culprit.Detail}] += l.Culprit.Count
	}
	var lost []string
	for what, n := range total {
		what.Count = n
		lost = append(lost, words.Lost(what))
	}
	for _, what := range slices.Sorted(slices.Values(lost)) {
		fmt.Fprintf(w, "not in the evidence: %s (see `culprit losses`)\n", text.Escape(what))
	}
	return nil
}
