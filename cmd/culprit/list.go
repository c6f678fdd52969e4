package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"culprit/evidence"
	"culprit/internal/config"
	"culprit/internal/event"
	"culprit/internal/text"
	"culprit/internal/words"
)

// evidenceFlags say where the evidence is: every command that reads it has them.
type evidenceFlags struct{ config, dir string }

func (f *evidenceFlags) add(cmd *cobra.Command) {
	configFlag(cmd, &f.config, "")
	cmd.Flags().StringVar(&f.dir, "evidence", "", "evidence `directory` (default: that of the configuration)")
}

// open opens the evidence for reading.
func (f *evidenceFlags) open() (*evidence.Reader, error) {
	dir, err := f.directory()
	if err != nil {
		return nil, err
	}
	return evidence.OpenReader(dir)
}

// directory is the one that was named, or that of the named or the usual
// configuration, or the default one.
func (f *evidenceFlags) directory() (string, error) {
	if f.dir != "" && f.config != "" {
		return "", usageError{errors.New("give --evidence or --config, not both")}
	}
	if f.dir != "" {
		return f.dir, nil
	}
	e, err := f.settings()
	return e.Dir, err
}

// listFlags are what the three lists have in common.
type listFlags struct {
	evidenceFlags
	since, user string
	filter      evidence.Filter
	json        bool
}

// tableRows is how many rows a table has unless --number says otherwise.
const tableRows = 200

func (f *listFlags) add(cmd *cobra.Command) {
	f.evidenceFlags.add(cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.since, "since", "", "only from this `time` on: 90s, 2h, 7d, 2026-01-31, \"2026-01-31 15:04\" or RFC 3339")
	fl.StringVar(&f.user, "user", "", "only this `user`, by name or UID")
	fl.StringVar(&f.filter.Rule, "rule", "", "only this `rule`")
	fl.StringVar(&f.filter.Capture, "capture", "", "only the capture with this `ID`; its first or last characters are enough")
	fl.IntVarP(&f.filter.Last, "number", "n", tableRows, "only the last so many; 0: all (with --json the default is all)")
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
func (f *listFlags) resolve(r *evidence.Reader) error {
	if f.filter.Capture == "" {
		return nil
	}
	found, err := r.Find(f.filter.Capture)
	if err != nil {
		return err
	}
	c, ok := found.(*event.Capture)
	if !ok {
		return fmt.Errorf("%s is no capture: take one from `culprit captures`", f.filter.Capture)
	}
	f.filter.Capture = c.Event.ID
	return nil
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
	return time.Time{}, fmt.Errorf("--since %q is no time: write 90s, 2h, 7d, 2026-01-31, \"2026-01-31 15:04\" or RFC 3339", s)
}

// newList makes one of the list commands.
func newList[T any](use, short, header string, query func(*evidence.Reader, evidence.Filter) iter.Seq2[T, error], row func(*T) []string) *cobra.Command {
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

// printTable prints what was found as a table, in columns as wide as they need to
// be. What others wrote is escaped.
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

// warnOfLosses says below a list what is not in it.
func warnOfLosses(w io.Writer, r *evidence.Reader, f evidence.Filter) error {
	total := map[string]uint64{} // by their words
	for l, err := range r.Losses(evidence.Filter{Since: f.Since}) {
		if err != nil {
			return err
		}
		total[words.Loss(l.Culprit)] += l.Culprit.Count
	}
	for _, what := range slices.Sorted(maps.Keys(total)) {
		fmt.Fprintf(w, "not in the evidence: %d %s (see `culprit losses`)\n", total[what], text.Escape(what))
	}
	return nil
}

func newLosses() *cobra.Command {
	return newList("losses", "List what was not seen or not kept, newest last",
		"TIME\tCOUNT\tWHAT",
		(*evidence.Reader).Losses, func(l *event.Loss) []string {
			return []string{text.Time(l.Timestamp), strconv.FormatUint(l.Culprit.Count, 10), words.Loss(l.Culprit)}
		})
}

func newHits() *cobra.Command {
	return newList("hits", "List the packets that matched, newest last",
		"TIME\tHIT\tRULE\tUSER\tPACKET\tASKS\tORIGIN\tPROOF\tCOUNT\tCAPTURE",
		(*evidence.Reader).Hits, func(h *event.Hit) []string {
			capture := "none: " + words.NoCapture(h.Culprit.NoCapture)
			switch from := h.Culprit.ForwardedFrom; {
			case h.Culprit.Capture != nil:
				capture = h.Culprit.Capture.ID
			case from != nil:
				capture = "none: a local resolver's, for hit " + from.ID
			}
			return []string{
				text.Time(h.Timestamp), h.Event.ID, h.Rule.Name, h.User.String(),
				fmt.Sprintf("%s %s > %s", h.Network.Transport, h.Source, h.Destination), h.Asks(),
				clip(words.Sender(h)), shortProof(h.Culprit.Proof), strconv.Itoa(h.Culprit.Count), capture,
			}
		})
}

// shortProof says where the proof is.
func shortProof(p *event.ProofDetail) string {
	switch {
	case p == nil:
		return "-"
	case p.Probable:
		return fmt.Sprintf("probably %s, line %d", p.Syscall, p.Line)
	}
	return fmt.Sprintf("%s, line %d", p.Syscall, p.Line)
}

// clip shortens a text for a cell of a table.
func clip(s string) string {
	const most = 48
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}

func newCaptures() *cobra.Command {
	return newList("captures", "List the captures, newest last",
		"STARTED\tCAPTURE\tUSER\tRULE\tSCOPE\tLEVEL\tHITS\tTRACES\tMISSED\tSTATE",
		(*evidence.Reader).Captures, func(c *event.Capture) []string {
			d := &c.Culprit
			rule, missed := "-", 0
			if c.Rule != nil {
				rule = c.Rule.Name
			}
			for _, n := range d.Missed {
				missed += n
			}
			state := d.State
			if d.EndedBecause != nil {
				state += ": " + words.CaptureEnded(d.EndedBecause)
			}
			return []string{
				text.Time(c.Timestamp), c.Event.ID, c.User.String(), rule, d.Scope,
				strconv.Itoa(d.Level), strconv.Itoa(d.Hits), strconv.Itoa(d.Traces), strconv.Itoa(missed), state,
			}
		})
}

func newTraces() *cobra.Command {
	return newList("traces", "List the traces, newest last",
		"STARTED\tTRACE\tUSER\tPROCESS\tFOUND BY\tLIFE\tSIZE\tSTATE\tHIT\tFILE",
		(*evidence.Reader).Traces, func(t *event.Trace) []string {
			d := &t.Culprit
			state, hit := d.State, "-"
			if d.EndedBecause != nil {
				state += ": " + words.TraceEnded(d.EndedBecause)
			}
			if d.Hit != nil {
				hit = d.Hit.ID
			}
			return []string{
				text.Time(t.Timestamp), t.Event.ID, t.User.String(), clip(t.Process.String()),
				d.FoundBy, d.Life(), text.Size(t.File.Size), state, hit, t.File.Path,
			}
		})
}
