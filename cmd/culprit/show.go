package main

import (
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"culprit/evidence"
	"culprit/evidence/dossier/report"
	"culprit/internal/event"
	"culprit/internal/text"
	"culprit/internal/words"
)

func newShow() *cobra.Command {
	var f evidenceFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Explain one hit, capture or trace in full",
		Long:  "Explain one hit, capture or trace in full. The first or last characters of its id are enough.",
		Args:  oneID,
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := f.open()
			if err != nil {
				return err
			}
			defer r.Close()
			found, err := r.Find(args[0])
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), func(yield func(any, error) bool) { yield(found, nil) })
			}
			s := shower{cmd.OutOrStdout(), r}
			switch v := found.(type) {
			case *event.Hit:
				return s.hit(v)
			case *event.Capture:
				return s.capture(v)
			default:
				return s.trace(found.(*event.Trace))
			}
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the document as JSON")
	return cmd
}

// shower explains things to people.
type shower struct {
	w io.Writer
	r *evidence.Reader
}

// line prints "  key  value", the value escaped.
func (s shower) line(key, format string, args ...any) {
	fmt.Fprintf(s.w, "  %-12s %s\n", key, text.Escape(fmt.Sprintf(format, args...)))
}

func (s shower) title(format string, args ...any) {
	fmt.Fprintf(s.w, "%s\n", text.Escape(fmt.Sprintf(format, args...)))
}

func (s shower) hit(h *event.Hit) error {
	s.title("hit %s", h.Event.ID)
	s.line("time", "%s", text.Time(h.Timestamp))
	s.line("rule", "%s", h.Rule.Name)
	s.line("user", "%s (of the socket, by the kernel)", h.User.String())
	s.line("packet", "%s %s, %s > %s, %d bytes", h.Network.Type, h.Network.Transport, h.Source, h.Destination, h.Network.Bytes)
	if h.Culprit.Truncated {
		s.line("", "only the first %d bytes were logged (nflog.snaplen)", len(h.Packet))
	}
	if h.Culprit.Count > 1 {
		s.line("repeated", "%d such packets within a second", h.Culprit.Count)
	}
	asked := h.Culprit.Questions
	if len(asked) == 0 && h.DNS != nil {
		asked = []event.DNS{*h.DNS}
	}
	for _, q := range asked {
		s.line("asks", "%s %s %s (dns id %s)", q.Question.Name, q.Question.Class, q.Question.Type, q.ID)
	}
	if err := s.proof(h); err != nil {
		return err
	}
	o := &h.Culprit.Origin
	s.line("origin", "%s", words.Grade(o))
	if h.Process != nil {
		s.process(h.Process)
	}
	for i := range o.Processes {
		s.process(&o.Processes[i])
	}
	if o.More > 0 {
		s.line("", "and %d more", o.More)
	}
	if h.Container != nil {
		s.line("container", "%s", h.Container.ID)
	}
	if err := s.forwards(h); err != nil {
		return err
	}
	if h.Culprit.Capture == nil {
		s.line("capture", "none: %s", words.NoCapture(h.Culprit.NoCapture))
	} else {
		s.line("capture", "%s", h.Culprit.Capture.ID)
		triggered := func(t *event.Trace) bool { return t.Culprit.Hit != nil && t.Culprit.Hit.ID == h.Event.ID }
		sender := func(t *event.Trace) bool {
			proves := h.Culprit.Proof != nil && h.Culprit.Proof.Trace.ID == t.Event.ID
			return !triggered(t) && (proves || hasOrigin(h, t))
		}
		capture := evidence.Filter{Capture: h.Culprit.Capture.ID}
		if err := s.traces("traces it triggered", capture, triggered); err != nil {
			return err
		}
		if err := s.traces("traces with its process that were running already", capture, sender); err != nil {
			return err
		}
	}
	if h.Culprit.Proof != nil {
		if err := s.excerpt(h.Culprit.Proof); err != nil {
			return err
		}
	}
	s.title("packet, from its IP header on")
	for line := range strings.Lines(hex.Dump(h.Packet)) {
		fmt.Fprintf(s.w, "  %s", line)
	}
	return nil
}

// proof says which line of a trace sent the packet, or why none is known.
func (s shower) proof(h *event.Hit) error {
	p := h.Culprit.Proof
	if p == nil {
		why, err := s.r.Unproven(h)
		s.line("proof", "none: %s", why)
		return err
	}
	grade := "this line sent the packet"
	if p.Probable {
		grade = "probable: this line agrees with all of the packet that both show"
	}
	s.line("proof", "%s: line %d (%s by thread %d) of trace %s", grade, p.Line, p.Syscall, p.TID, p.Trace.ID)
	return nil
}

// excerpt prints the line that sent the packet, with what its thread did around it.
func (s shower) excerpt(p *event.ProofDetail) error {
	found, err := s.r.Find(p.Trace.ID)
	if err != nil {
		return err
	}
	t, ok := found.(*event.Trace)
	if !ok {
		return fmt.Errorf("show a proof: %s is no trace", p.Trace.ID)
	}
	if t.Culprit.Removed != nil {
		s.title("the trace %s was removed: %s", t.File.Path, words.Removed(*t.Culprit.Removed))
		return nil
	}
	story, err := evidence.Excerpt(t.File.Path, *p)
	if err != nil {
		s.title("the trace cannot be read: %v", err)
		return nil
	}
	s.title("what the thread did around it, in %s", t.File.Path)
	if forked := evidence.ForkedBy(story); forked != "" {
		s.line("", "%s", forked)
	}
	for _, l := range story.Lines {
		mark := " "
		if l.Proof {
			mark = ">"
		}
		if l.Gap {
			fmt.Fprintln(s.w, "           …")
		}
		fmt.Fprintf(s.w, "  %s %6d  %s\n", mark, l.Number, text.Escape(clipLine(l.Text)))
	}
	return nil
}

// clipLine shortens a line of a trace.
func clipLine(s string) string {
	const most = 400
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// forwards prints how a local resolver sent the question on.
func (s shower) forwards(h *event.Hit) error {
	if from := h.Culprit.ForwardedFrom; from != nil {
		s.line("forwarded", "for the program of hit %s, through a local resolver", from.ID)
	}
	for by, err := range s.r.ForwardedBy(h) {
		if err != nil {
			return err
		}
		s.line("forwarded by", "%s: hit %s, %s, to %s", by.User, by.Event.ID, text.Time(by.Timestamp), by.Destination)
	}
	return nil
}

// process prints a process and its parents, each further in.
func (s shower) process(p *event.Process) {
	s.line("process", "%s", p)
	s.line("", "executable %s, directory %s, started %s, real user %s", p.Executable, p.WorkingDirectory, text.Time(p.Start), p.RealUser)
	for depth, parent := range p.Ancestry() {
		s.line("", "%sof %s", strings.Repeat(" ", depth), parent)
	}
}

// hasOrigin reports whether a trace is of a process that the hit came from, or may
// have come from.
func hasOrigin(h *event.Hit, t *event.Trace) bool {
	for _, p := range append(h.Senders(), h.Culprit.Origin.Processes...) {
		if p.EntityID == t.Process.EntityID {
			return true
		}
	}
	return false
}

// traces prints the traces of a filter that are wanted, one a line.
func (s shower) traces(title string, f evidence.Filter, wanted func(*event.Trace) bool) error {
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
		s.line(t.Event.ID, "%s, %s: %s", &t.Process, traceState(&t), t.File.Path)
	}
	if n == 0 {
		s.title("%s: none", title)
	}
	return nil
}

func traceState(t *event.Trace) string {
	if t.Culprit.EndedBecause != nil {
		return words.TraceEnded(t.Culprit.EndedBecause)
	}
	return t.Culprit.State
}

func (s shower) capture(c *event.Capture) error {
	d := &c.Culprit
	s.title("capture %s", c.Event.ID)
	s.line("user", "%s", &c.User)
	s.line("scope", "%s", map[string]string{
		"user":    "user: every process of the user",
		"process": "process: the processes the hits came from, and their descendants",
	}[d.Scope])
	s.line("started", "%s", text.Time(c.Timestamp))
	if c.Event.End != nil {
		s.line("ended", "%s, after %s", text.Time(*c.Event.End), time.Duration(c.Event.Duration).Round(time.Millisecond))
	}
	s.line("state", "%s", d.State)
	if d.EndedBecause != nil {
		s.line("because", "%s", words.CaptureEnded(d.EndedBecause))
	}
	s.line("level", "%d", d.Level)
	for _, r := range d.Raised {
		s.line("", "%d since %s", r.Level, text.Time(r.Timestamp))
	}
	if d.FirstHit != nil {
		s.line("hits", "%d, the first %s", d.Hits, d.FirstHit.ID)
	}
	s.line("traces", "%d", d.Traces)
	if d.Unheld > 0 {
		s.line("not held", "%s, because culprit was too busy to listen; they were found a little later", text.Plural(d.Unheld, "program"))
	}
	if d.GateFailures > 0 {
		s.line("gate", "it failed %s; programs that started then were found a little later", text.Plural(d.GateFailures, "time"))
	}
	if d.Overruns > 0 {
		s.line("overruns", "process events were lost %s; /proc was scanned anew each time", text.Plural(d.Overruns, "time"))
	}
	for _, code := range slices.Sorted(maps.Keys(d.Missed)) {
		s.line("not traced", "%s: %s", text.Plural(d.Missed[code], "process"), words.Missed(d, code))
		for _, m := range d.Examples {
			if m.Reason.Code == code {
				s.line("", "%d %s %s", m.PID, m.CommandLine, m.Reason.Detail)
			}
		}
	}
	for l, err := range s.r.Losses(evidence.Filter{Since: c.Timestamp}) {
		if err != nil {
			return err
		}
		if c.Event.End == nil || l.Timestamp.Before(c.Event.End.Add(time.Second)) {
			s.line("lost", "%s: %d %s", text.Time(l.Timestamp), l.Culprit.Count, words.Loss(l.Culprit))
		}
	}
	if err := s.programs(c); err != nil {
		return err
	}
	const someHits = 20
	title := fmt.Sprintf("hits (the last %d)", someHits)
	for h, err := range s.r.Hits(evidence.Filter{Capture: c.Event.ID, Last: someHits}) {
		if err != nil {
			return err
		}
		if title != "" {
			s.title("%s", title)
			title = ""
		}
		s.line(h.Event.ID, "%s %s, %s", text.Time(h.Timestamp), h.Asks(), clip(words.Sender(&h)))
	}
	return s.traces("traces", evidence.Filter{Capture: c.Event.ID}, func(*event.Trace) bool { return true })
}

// programs prints what programs lived while the capture did: how many, and how
// long, by executable and by parent.
func (s shower) programs(c *event.Capture) error {
	byExecutable, byParent := report.Groups{}, report.Groups{}
	for p, err := range s.r.Programs(evidence.Filter{Capture: c.Event.ID}) {
		if err != nil {
			return err
		}
		byExecutable.Add(p.Process.Executable, &p)
		if p.Process.Parent != nil {
			byParent.Add(clip(p.Process.Parent.CommandLine), &p)
		}
	}
	d := &c.Culprit
	s.title("programs of the user: %d", d.Programs)
	if d.Unseen > 0 {
		s.line("", "%s were gone before they could be looked at", text.Plural(d.Unseen, "more process"))
	}
	if d.Unlisted > 0 {
		s.line("", "%d of them were too many to be listed", d.Unlisted)
	}
	s.profiles("EXECUTABLE", byExecutable)
	s.profiles("PARENT", byParent)
	return nil
}

// profiles prints the most frequent first.
func (s shower) profiles(header string, groups report.Groups) {
	if len(groups) == 0 {
		return
	}
	rows := groups.Sorted()
	const most = 15
	table := tabwriter.NewWriter(s.w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "  COUNT\tTRACED\tTOTAL LIFE\tMEAN LIFE\t%s\n", header)
	for _, f := range rows[:min(len(rows), most)] {
		total, mean := "-", "-"
		if f.Ended > 0 {
			total = f.Total.Round(time.Millisecond).String()
			mean = (f.Total / time.Duration(f.Ended)).Round(100 * time.Microsecond).String()
		}
		fmt.Fprintf(table, "  %d\t%d\t%s\t%s\t%s\n", f.Count, f.Traced, total, mean, text.Escape(f.Name))
	}
	table.Flush()
	if len(rows) > most {
		s.line("", "and %d others", len(rows)-most)
	}
}

func (s shower) trace(t *event.Trace) error {
	d := &t.Culprit
	s.title("trace %s", t.Event.ID)
	s.line("file", "%s, %s", t.File.Path, text.Size(t.File.Size))
	if d.Removed != nil {
		s.line("", "it was removed: %s", words.Removed(*d.Removed))
	}
	s.line("user", "%s", &t.User)
	s.process(&t.Process)
	if t.Process.ExitCode != nil {
		s.line("exit status", "%d", *t.Process.ExitCode)
	}
	if t.Container != nil {
		s.line("container", "%s", t.Container.ID)
	}
	s.line("found by", "%s; strace was on it %.1f ms later", foundBy(d.FoundBy), d.AttachMS)
	s.line("life", "%s", d.Life())
	s.line("started", "%s", text.Time(t.Timestamp))
	if t.Event.End != nil {
		s.line("ended", "%s, after %s", text.Time(*t.Event.End), time.Duration(t.Event.Duration).Round(time.Millisecond))
	}
	s.line("state", "%s", traceState(t))
	if d.Truncated {
		s.line("truncated", "%s of strace output were not kept", text.Size(d.Lost))
	}
	s.line("capture", "%s", d.Capture.ID)
	if d.Hit != nil {
		s.line("hit", "%s", d.Hit.ID)
	}
	s.line("strace", "%s", text.Quote(d.Command))
	for _, p := range d.Proofs {
		grade := "sent"
		if p.Probable {
			grade = "probably sent"
		}
		s.line("proof", "line %d (%s by thread %d) %s the packet of hit %s", p.Line, p.Syscall, p.TID, grade, p.Hit.ID)
	}
	if d.Hit == nil {
		return nil
	}
	found, err := s.r.Find(d.Hit.ID)
	if h, ok := found.(*event.Hit); ok && err == nil {
		s.title("the packet that triggered it: rule %s, %s, %s %s > %s, asks %s", h.Rule.Name, text.Time(h.Timestamp), h.Network.Transport, h.Source, h.Destination, h.Asks())
	}
	return nil
}

func foundBy(how string) string {
	words := map[string]string{
		event.FoundGate: "gate (held in its execve)",
		event.FoundScan: "scan of /proc",
		event.FoundFork: "fork (proc connector)",
		event.FoundExec: "execve (proc connector)",
		event.FoundUID:  "change of UID (proc connector)",
		event.FoundPoll: "polling /proc",
	}
	if w, ok := words[how]; ok {
		return w
	}
	return how
}
