package serve

import (
	"fmt"

	"culprit/evidence/view"
	"culprit/internal/event"
	"culprit/internal/text"
	"culprit/internal/words"
)

// threadRow is a thread of a trace. All its text is escaped.
type threadRow struct {
	TID       int
	Name      string
	First     int64
	FirstLink string
	Lines     int64
	Link      string
	This      bool
}

// describe says what the trace is.
func (p *tracePage) describe(tr *view.Trace) {
	t, d := p.of, &p.of.Culprit
	add := func(key, link, format string, args ...any) {
		p.Facts = append(p.Facts, fact{key, clip(fmt.Sprintf(format, args...)), link})
	}
	lines := text.Plural(tr.Index.Lines(), "line")
	if !tr.All {
		lines = "more than " + lines
		p.Notes = append(p.Notes, "The trace is so long that not all of it was read in time: load the page again for the rest.")
	}
	add("User", link(map[string][]string{"user": {t.User.ID}}), "%s", &t.User)
	add("Began", "", "%s, %s", text.Time(t.Timestamp), d.Life())
	add("State", "", "%s", words.TraceState(t))
	add("Text", "", "%s, %s", lines, text.Size(tr.Index.End.Text))
	add("Capture", p.Capture, "%s", d.Capture.ID)
	if d.Lost > 0 {
		add("Missing", "", "%s of strace's output were not kept", text.Size(d.Lost))
	}
	if d.LookBack != nil {
		p.Notes = append(p.Notes, "This is a look-back, not a trace by strace: culprit kept these system calls in memory before the packet.")
		for _, line := range words.LookBack(d.LookBack) {
			p.Notes = append(p.Notes, clip(line))
		}
	}
	if t.Culprit.State == event.StateRunning {
		p.Notes = append(p.Notes, "The trace is still being written: load the page again for what has come since.")
	}
	for _, th := range tr.Index.Threads[:min(len(tr.Index.Threads), shownThreads)] {
		one := p.place
		one.thread = th.TID
		one = one.at(0)
		row := threadRow{TID: th.TID, Name: clip(th.Name), First: th.First, Lines: th.Lines, Link: one.address(), FirstLink: one.at(th.First).address(), This: th.TID == p.thread}
		if row.Name == "" && th.TID == t.Process.PID {
			row.Name = clip(t.Process.Name)
		}
		p.Threads = append(p.Threads, row)
	}
	if n := len(tr.Index.Threads) - len(p.Threads); n > 0 || tr.Index.Unlisted > 0 {
		p.MoreThreads = fmt.Sprintf("%s more are left out here", text.Plural(n, "thread"))
		if tr.Index.Unlisted > 0 {
			p.MoreThreads += fmt.Sprintf(", and those of %s", text.Plural(tr.Index.Unlisted, "line"))
		}
	}
}
