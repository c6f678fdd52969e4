package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"culprit/evidence/catalogue"
	"culprit/evidence/dossier"
	"culprit/internal/event"
	"culprit/internal/text"
	"culprit/internal/words"
)

func newShow() *cobra.Command { return newShowFrom(new(evidenceFlags)) }

func newShowFrom(f source) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Explain one hit, capture, trace or snapshot in full",
		Long:  "Explain one hit, capture, trace or snapshot in full. The first or last characters of its id are enough.",
		Args:  oneID,
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := f.read(cmd)
			if err != nil {
				return err
			}
			defer r.Close()
			found, err := r.Find(args[0])
			if err != nil {
				return err
			}
			if h := found.Hit; asJSON && h != nil {
				if _, _, err := dossier.Follow(r, h); err != nil {
					return err
				}
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), func(yield func(any, error) bool) { yield(found.Document(), nil) })
			}
			s := detailPrinter{cmd.OutOrStdout(), r}
			switch {
			case found.Hit != nil:
				return s.hit(found.Hit)
			case found.Capture != nil:
				return s.capture(found.Capture)
			case found.Snapshot != nil:
				return s.snapshot(found.Snapshot)
			}
			return s.trace(found.Trace)
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the document as JSON")
	return cmd
}

// detailPrinter prints details for people.
type detailPrinter struct {
	w io.Writer
	r *catalogue.Reader
}

// line prints "  key  value", the value escaped.
func (s detailPrinter) line(key, format string, args ...any) {
	fmt.Fprintf(s.w, "  %-12s %s\n", key, text.Escape(fmt.Sprintf(format, args...)))
}

// host says which host of a fleet it is of.
func (s detailPrinter) host(h *event.Host) {
	if h != nil && h.Name != "" {
		s.line("host", "%s", h.Name)
	}
}

func (s detailPrinter) title(format string, args ...any) {
	fmt.Fprintf(s.w, "%s\n", text.Escape(fmt.Sprintf(format, args...)))
}

// process prints a process and its parents, each further indented.
func (s detailPrinter) process(p *event.Process) {
	s.line("process", "%s", p)
	s.line("", "executable %s, directory %s, started %s, real user %s", p.Executable, p.WorkingDirectory, text.Time(p.Start), p.RealUser)
	for depth, parent := range p.Ancestry() {
		s.line("", "%sof %s", strings.Repeat(" ", depth), parent)
	}
}

// traces prints the wanted traces of a filter, one on each line.
func (s detailPrinter) traces(title string, f catalogue.Filter, wanted func(*event.Trace) bool) error {
	n := 0
	for t, err := range s.r.Traces(f) {
		if err != nil {
			return err
		}
		if !wanted(&t) {
			continue
		}
		if n++; n == 1 {
			s.title("%s", title)
		}
		s.line(t.Event.ID, "%s, %s: %s", &t.Process, words.TraceState(&t), t.File.Path)
	}
	if n == 0 {
		s.title("%s: none", title)
	}
	return nil
}
