package main

import (
	"fmt"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	"culprit/evidence/catalogue"
	"culprit/evidence/dossier/report"
	"culprit/internal/event"
	"culprit/internal/text"
	"culprit/internal/words"
)

func (s detailPrinter) capture(c *event.Capture) error {
	d := &c.Culprit
	s.title("capture %s", c.Event.ID)
	of := catalogue.Filter{Since: c.Timestamp}
	if c.Host != nil {
		s.host(c.Host)
		of.Host = c.Host.Name
	}
	s.line("user", "%s", c.Whose())
	if c.Container != nil {
		s.line("container", "%s", words.Container(&c.Place))
	}
	if c.Culprit.Anywhere {
		s.line("", "on the host and in every container")
	}
	s.line("scope", "%s", map[string]string{
		"user":      "user: every process of the user",
		"container": "container: every process of the container",
		"process":   "process: the processes the hits came from, and their descendants",
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
				s.line("", "%d %s%s", m.PID, m.CommandLine, missedWhy(d, m))
			}
		}
	}
	for l, err := range s.r.Losses(of) {
		if err != nil {
			return err
		}
		if c.Event.End == nil || l.Timestamp.Before(c.Event.End.Add(time.Second)) {
			s.line("lost", "%s: %s", text.Time(l.Timestamp), words.Lost(l.Culprit))
		}
	}
	if err := s.programs(c); err != nil {
		return err
	}
	const someHits = 20
	title := fmt.Sprintf("hits (the last %d)", someHits)
	for h, err := range s.r.Hits(catalogue.Filter{Capture: c.Event.ID, Last: someHits}) {
		if err != nil {
			return err
		}
		if title != "" {
			s.title("%s", title)
			title = ""
		}
		s.line(h.Event.ID, "%s %s, %s", text.Time(h.Timestamp), h.Asks(), clip(words.Sender(&h)))
	}
	return s.traces("traces", catalogue.Filter{Capture: c.Event.ID}, func(*event.Trace) bool { return true })
}

// missedWhy says why a process was not traced, unless the words for all processes with the same
// code say it already.
func missedWhy(d *event.CaptureDetail, m event.Missed) string {
	if why := words.Untraced(m.Reason); why != words.Missed(d, m.Reason.Code) {
		return ": " + why
	}
	return ""
}

// programs prints which programs ran during the capture: how many, and for how long, by
// executable and by parent.
func (s detailPrinter) programs(c *event.Capture) error {
	byExecutable, byParent := report.Groups{}, report.Groups{}
	for p, err := range s.r.Programs(catalogue.Filter{Capture: c.Event.ID}) {
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
		s.line("", "%s ended before culprit could look", text.Plural(d.Unseen, "more process"))
	}
	if d.Unlisted > 0 {
		s.line("", "%d of them are not listed: too many", d.Unlisted)
	}
	s.profiles("EXECUTABLE", byExecutable)
	s.profiles("PARENT", byParent)
	return nil
}

// profiles prints the most frequent first.
func (s detailPrinter) profiles(header string, groups report.Groups) {
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
