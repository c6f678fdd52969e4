package watch

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"culprit/internal/event"
	"culprit/internal/text"
	"culprit/internal/words"
)

// row is a line on the screen.
type row struct {
	text string
	bold bool
}

// frame makes the screen for a view: at most height rows, none wider than width. It escapes
// foreign text.
func frame(v *view, now time.Time, width, height int) []row {
	straces, runs := 0, 0
	var bytes int64
	for _, w := range v.captures {
		straces += w.straces
		if !w.finished() {
			runs++
			bytes += w.bytes
		}
	}
	rows := []row{
		{fmt.Sprintf("%s: %s. q quits", v.dir, v.daemon), true},
		{fmt.Sprintf("now %s, %s, %s; since %s %s, %d proven, %d lost", text.Plural(runs, "capture"), text.Plural(straces, "strace"),
			text.Size(bytes), v.since.Local().Format(time.TimeOnly), text.Plural(v.newHits, "hit"), v.proven, v.lost), false},
	}

	// Each table has an empty row and a header before it. The space that the other tables leave
	// is for the hits.
	left := height - len(rows) - 2*3
	losses := min(len(v.losses), max(1, left/5))
	captures := min(len(v.captures), max(1, left/3, left-losses-len(v.hits)))
	hits := min(len(v.hits), max(0, left-losses-captures))

	rows = append(rows, table("STARTED\tCAPTURE\tUSER\tLEVEL\tHITS\tTRACES\tSTRACES\tSIZE\tSTATE", latest(running(v.captures), captures), func(w *captureView) []string {
		d := &w.Culprit
		return []string{
			shortTime(w.Timestamp, now), shortID(w.Event.ID), w.Whose(), strconv.Itoa(d.Level), strconv.Itoa(d.Hits),
			strconv.Itoa(d.Traces), strconv.Itoa(w.straces), text.Size(w.bytes), strings.TrimSuffix(d.State+": "+words.CaptureEnded(d.EndedBecause), ": "),
		}
	})...)
	rows = append(rows, table("TIME\tHIT\tUSER\tASKS\tPROOF\tFROM", latest(v.hits, hits), func(h event.Hit) []string {
		proof := "-"
		if p := h.Culprit.Proof; p != nil {
			proof = fmt.Sprintf("line %d", p.Line)
			switch {
			case p.Probable:
				proof += "?"
			case p.Kernel:
				proof += " (kernel)"
			}
		}
		return []string{
			shortTime(h.Timestamp, now), shortID(h.Event.ID), h.User.String(), text.Clip(text.Escape(h.Asks()), max(12, width/3)), proof, clip(words.Sender(&h)),
		}
	})...)
	rows = append(rows, table("TIME\tLOST\tWHAT", latest(v.losses, losses), func(l event.Loss) []string {
		return []string{shortTime(l.Timestamp, now), strconv.FormatUint(l.Culprit.Count, 10), words.Loss(l.Culprit)}
	})...)
	rows = rows[:max(0, min(len(rows), height))]
	for i := range rows {
		rows[i].text = text.Clip(text.Escape(rows[i].text), width)
	}
	return rows
}

// running moves the unfinished captures to the end, where the newest are.
func running(captures []*captureView) []*captureView {
	finished := func(w *captureView) int {
		if w.finished() {
			return 0
		}
		return 1
	}
	captures = slices.Clone(captures)
	slices.SortStableFunc(captures, func(a, b *captureView) int { return cmp.Compare(finished(a), finished(b)) })
	return captures
}

// latest returns the last n, in reverse order.
func latest[T any](all []T, n int) []T {
	all = slices.Clone(all[len(all)-n:])
	slices.Reverse(all)
	return all
}

// table makes rows of a table, with an empty one before it.
func table[T any](header string, all []T, cells func(T) []string) []row {
	var b bytes.Buffer
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, header)
	for _, one := range all {
		fields := cells(one)
		for i, f := range fields {
			fields[i] = text.Escape(f)
		}
		fmt.Fprintln(w, strings.Join(fields, "\t"))
	}
	w.Flush()
	rows := []row{{}}
	for line := range strings.Lines(b.String()) {
		rows = append(rows, row{strings.TrimRight(line, " \n"), len(rows) == 1})
	}
	return rows
}

// shortID is enough of an id for commands to find it: its random end.
func shortID(id string) string { return id[max(0, len(id)-8):] }

// shortTime writes a time as the time of day, or as the day if it is older than some hours.
func shortTime(t, now time.Time) string {
	if now.Sub(t).Abs() > 12*time.Hour {
		return t.Local().Format("01-02 15:04")
	}
	return t.Local().Format(time.TimeOnly)
}
