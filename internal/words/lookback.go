package words

import (
	"fmt"

	"culprit/internal/event"
	"culprit/internal/text"
)

// LookBack says how much a look-back has of what a process did, and what is missing.
func LookBack(l *event.LookBack) (lines []string) {
	since := "when culprit started to record"
	if l.TurnedOver {
		since = "the memory was full: what was before is forgotten"
	}
	lines = append(lines,
		"kept in memory before the packet, and written as strace would; it is not by strace",
		"the time of a line is when its call returned",
		fmt.Sprintf("%s, complete since %s (%s)", text.Plural(l.Calls, "call"), text.Time(l.Since), since))
	if l.Older {
		lines = append(lines, "the process is older than that: how it began is missing")
	}
	if l.Continues != nil {
		lines = append(lines, "what it did before is in the look-back "+l.Continues.ID)
	}
	if l.LeftOut > 0 {
		lines = append(lines, fmt.Sprintf("%s had no room, the oldest ones", text.Plural(l.LeftOut, "more call")))
	}
	if l.Overwritten > 0 {
		lines = append(lines, fmt.Sprintf("%s of the memory overwritten while it was read: calls may be missing", text.Plural(l.Overwritten, "piece")))
	}
	return lines
}
