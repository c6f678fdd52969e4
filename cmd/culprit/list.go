package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"culprit/evidence/catalogue"
	"culprit/internal/config"
	"culprit/internal/event"
	"culprit/internal/text"
	"culprit/internal/words"
)

// listFlags are the flags that the three lists share.
type listFlags struct {
	evidenceFlags
	since, user string
	filter      catalogue.Filter
	json        bool
}

// tableRows is how many rows a table has without --number.
const tableRows = 200

func (f *listFlags) add(cmd *cobra.Command) {
	f.evidenceFlags.add(cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.since, "since", "", "only at this `time` or later: 90s, 2h, 7d, 2026-01-31, \"2026-01-31 15:04\" or RFC 3339")
	fl.StringVar(&f.user, "user", "", "only this `user`, by name or UID")
	fl.StringVar(&f.filter.Rule, "rule", "", "only this `rule`")
	fl.StringVar(&f.filter.Capture, "capture", "", "only the capture with this `ID`; its first or last characters are enough")
	fl.IntVarP(&f.filter.Last, "number", "n", tableRows, "only the last `N`; 0: all (with --json the default is all)")
	fl.BoolVar(&f.json, "json", false, "print JSON Lines with the names of the Elastic Common Schema")
}

// parse completes the filter from the flags.
func (f *listFlags) parse(cmd *cobra.Command) error {
	if f.since != "" {
		t, err := parseSince(f.since, time.Now())
		if err != nil {
			return usageError{err}
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

func parseSince(s string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(s); err == nil {
		return now.Add(-d), nil
	}
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.Atoi(days); err == nil {
			return now.AddDate(0, 0, -n), nil
		}
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("--since %q is not a time: write 90s, 2h, 7d, 2026-01-31, \"2026-01-31 15:04\" or RFC 3339", s)
}

// newList makes one of the list commands.
func newList[T any](use, short, header string, query func(*catalogue.Reader, catalogue.Filter) iter.Seq2[T, error], row func(*T) []string) *cobra.Command {
	var f listFlags
	cmd := &cobra.Command{
		Use:   use,
		Short: short,
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.parse(cmd); err != nil {
				return err
			}
			r, err := f.open()
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
	return cmd
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
	for l, err := range r.Losses(catalogue.Filter{Since: f.Since}) {
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
