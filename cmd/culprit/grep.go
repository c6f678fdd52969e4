package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"

	"github.com/spf13/cobra"

	"culprit/evidence/grep"
	"culprit/internal/event"
	"culprit/internal/text"
)

// exitStatus ends the program with that status and without a message.
type exitStatus int

func (e exitStatus) Error() string { return fmt.Sprintf("status %d", int(e)) }

// grepNothing is the status of grep(1) if no line matches. Its status for errors is 2.
const grepNothing exitStatus = 1

type grepFlags struct {
	listFlags
	options  grep.Options
	patterns []string
	files    bool
	count    bool
}

func newGrep(from source) *cobra.Command {
	f := &grepFlags{listFlags: listFlags{source: from}}
	cmd := &cobra.Command{
		Use:   "grep [flags] PATTERN",
		Short: "Search all traces, compressed or not",
		Long: `Search all traces, compressed or not, oldest first, for lines that match PATTERN, a
regular expression of Go (https://pkg.go.dev/regexp/syntax). Each match is printed as

    CAPTURE PID-NAME:LINE:TEXT

CAPTURE is the id of the capture. PID-NAME is the process whose trace it is. LINE is
the number of the line in the trace. TEXT is the line: it begins with the PID of the
process that it is about. "cut -d' ' -f1" prints only the capture, "cut -d: -f3-" only
the text. Unprintable characters are escaped. culprit writes comments at the beginning
and end of a trace: --comments searches them, too.

A pattern that contains a few fixed letters is fast. One that does not, such as
[0-9]+, takes ten times as long or more.

Exit status: 0 if a line matched, 1 if none did, 2 if there was trouble.`,
		Example: `  culprit grep badzone
  culprit grep -F '\7badzone\4test' --user web1 --since 2d
  culprit grep -l 'sendto|sendmmsg' --capture 01JD | xargs zstdless`,
		RunE: func(cmd *cobra.Command, args []string) error {
			err := f.run(cmd, args)
			if err != nil && !errors.As(err, new(exitStatus)) {
				err = usageError{err} // the same status
			}
			return err
		},
	}
	f.source.add(cmd)
	fl := cmd.Flags()
	fl.BoolVarP(&f.options.IgnoreCase, "ignore-case", "i", false, "ignore the difference between upper and lower case")
	fl.BoolVarP(&f.options.Fixed, "fixed-strings", "F", false, "PATTERN is plain text, not a regular expression")
	fl.BoolVar(&f.options.Comments, "comments", false, "also search the comments that culprit wrote into the traces: they begin with # and say whose trace it is")
	fl.StringArrayVarP(&f.patterns, "regexp", "e", nil, "a `PATTERN`; may be repeated, and may begin with -")
	fl.BoolVarP(&f.files, "files-with-matches", "l", false, "print only the names of files with a match")
	fl.BoolVar(&f.count, "count", false, "print CAPTURE PID-NAME:COUNT for each trace with a match (-c is --config)")
	fl.StringVar(&f.since, "since", "", "only traces that started at this `time` or later: 90s, 2h, 7d, 2026-01-31, \"2026-01-31 15:04\" or RFC 3339")
	fl.StringVar(&f.user, "user", "", "only traces of this `user`, by name or UID")
	addPlace(fl, &f.filter.Place)
	fl.StringVar(&f.filter.Capture, "capture", "", "only the capture with this `ID`; its first or last characters are enough")
	fl.BoolVar(&f.json, "json", false, "print each line as JSON with the names of the Elastic Common Schema")
	return cmd
}

// pattern reads the pattern from the flags or the argument.
func (f *grepFlags) pattern(cmd *cobra.Command, args []string) (*grep.Pattern, error) {
	if len(f.patterns) == 0 && len(args) > 0 {
		f.patterns, args = args[:1], args[1:]
	}
	switch {
	case len(f.patterns) == 0:
		return nil, fmt.Errorf("grep takes one pattern (see `%s --help`)", cmd.CommandPath())
	case len(args) > 0:
		return nil, fmt.Errorf("unexpected argument %q: all traces are searched; choose with --capture, --user and --since", args[0])
	case f.files && f.count || f.json && (f.files || f.count):
		return nil, errors.New("give one of --json, --count and -l")
	}
	return grep.Compile(f.patterns, f.options)
}

func (f *grepFlags) run(cmd *cobra.Command, args []string) error {
	pattern, err := f.pattern(cmd, args)
	if err != nil {
		return err
	}
	if err := f.parse(cmd); err != nil {
		return err
	}
	traces, names, err := f.traces(cmd)
	if err != nil {
		return err
	}
	p := grepPrinter{grepFlags: f, traces: traces, w: bufio.NewWriter(cmd.OutOrStdout()), stderr: cmd.ErrOrStderr()}
	if err := p.search(cmd.Context(), names, pattern); err != nil {
		return err
	}
	switch {
	case p.failed > 0:
		return fmt.Errorf("%s could not be read", text.Plural(p.failed, "trace"))
	case !p.any:
		return grepNothing
	}
	return nil
}

// traces lists the wanted traces, with no more of each than is printed. There may be many, and
// the catalogue must not stay open while they are searched.
func (f *grepFlags) traces(cmd *cobra.Command) (traces []event.Trace, names []string, err error) {
	r, err := f.read(cmd)
	if err != nil {
		return nil, nil, err
	}
	defer r.Close()
	if err := f.resolve(r); err != nil {
		return nil, nil, err
	}
	for t, err := range r.Traces(f.filter) {
		if err != nil {
			return nil, nil, err
		}
		names = append(names, t.File.Path)
		traces = append(traces, event.Trace{
			Timestamp: t.Timestamp, Event: event.Meta{ID: t.Event.ID}, User: t.User,
			Process: event.Process{
				PID: t.Process.PID, EntityID: t.Process.EntityID, Start: t.Process.Start,
				Name: t.Process.Name, Executable: t.Process.Executable, CommandLine: t.Process.CommandLine,
			},
			Culprit: event.TraceDetail{Capture: t.Culprit.Capture},
		})
	}
	return traces, names, nil
}

// grepPrinter prints what is found.
type grepPrinter struct {
	*grepFlags
	traces []event.Trace
	w      *bufio.Writer
	stderr io.Writer

	any    bool
	gone   int
	failed int
}

// search searches the files and prints all matches.
func (p *grepPrinter) search(ctx context.Context, names []string, pattern *grep.Pattern) error {
	wanted := grep.Lines
	if p.files {
		wanted = grep.Names
	}
	if p.count {
		wanted = grep.Counts
	}
	err := grep.Search(ctx, names, pattern, wanted, p.printMatches)
	if err == nil {
		err = p.w.Flush()
	}
	if p.gone > 0 {
		fmt.Fprintf(p.stderr, "not searched: %s whose files were removed (see `culprit losses`)\n", text.Plural(p.gone, "trace"))
	}
	return err
}

// printMatches prints the matches in one trace.
func (p *grepPrinter) printMatches(f grep.Found) error {
	switch {
	case errors.Is(f.Err, fs.ErrNotExist):
		p.gone++
	case f.Err != nil:
		p.failed++
		p.w.Flush() // earlier matches come before it
		fmt.Fprintf(p.stderr, "culprit: %s\n", text.Escape(f.Err.Error()))
	}
	if f.Count == 0 {
		return nil
	}
	p.any = true
	t := &p.traces[f.Trace]
	where := fmt.Sprintf("%s %d-%s:", t.Culprit.Capture.ID, t.Process.PID, text.FileName(t.Process.Name))
	switch {
	case p.files:
		fmt.Fprintln(p.w, text.Escape(f.Path))
	case p.count:
		fmt.Fprintf(p.w, "%s%d\n", where, f.Count)
	case p.json:
		return p.lines(t, f)
	default:
		for _, l := range f.Lines {
			p.w.WriteString(where)
			p.w.WriteString(strconv.FormatInt(l.Number, 10))
			p.w.WriteByte(':')
			p.w.WriteString(text.Escape(string(l.Text)))
			if err := p.w.WriteByte('\n'); err != nil {
				return fmt.Errorf("print: %w", err)
			}
		}
	}
	return nil
}

// match is a matching line of a trace, as JSON.
type match struct {
	Message string        `json:"message"` // the line
	User    event.User    `json:"user"`
	Process event.Process `json:"process"` // of the trace
	File    matchFile     `json:"file"`
	Culprit matchDetail   `json:"culprit"`
}

type matchFile struct {
	Path string `json:"path"` // on the disk: compressed or not
}

type matchDetail struct {
	Capture event.Reference `json:"capture"`
	Trace   event.Reference `json:"trace"`
	Line    int64           `json:"line"` // of the uncompressed trace, from 1
}

// lines prints lines as JSON.
func (p *grepPrinter) lines(t *event.Trace, f grep.Found) error {
	enc := json.NewEncoder(text.JSONWriter(p.w))
	enc.SetEscapeHTML(false)
	for _, l := range f.Lines {
		err := enc.Encode(match{
			Message: string(l.Text), User: t.User, Process: t.Process, File: matchFile{f.Path},
			Culprit: matchDetail{t.Culprit.Capture, event.Reference{ID: t.Event.ID}, l.Number},
		})
		if err != nil {
			return fmt.Errorf("print: %w", err)
		}
	}
	return nil
}
