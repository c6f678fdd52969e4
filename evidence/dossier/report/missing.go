package report

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"culprit/internal/event"
	"culprit/internal/text"
	"culprit/internal/words"
)

// missing says what was not seen, not traced, not kept or not proven, one thing a line. It is empty
// if we know of nothing that is missing.
func (x *index) missing() []string {
	var all []string
	tell := func(n int, format string, args ...any) {
		if n > 0 {
			all = append(all, upper(fmt.Sprintf(format, args...)))
		}
	}
	c := &x.Capture.Culprit
	for _, why := range byCount(c.Missed) {
		tell(c.Missed[why], "%s not traced: %s%s", text.Plural(c.Missed[why], "process"), clip(words.Missed(c, why), maxCommand), x.example(why))
	}
	for _, what := range words.Unnoticed(c) {
		tell(1, "%s", what)
	}

	losses := map[event.LossDetail]int{} // the keys have no count
	for i := range x.Losses {
		l := &x.Losses[i].Culprit
		losses[event.LossDetail{Code: l.Code, Detail: l.Detail}] += int(l.Count)
	}
	for i, what := range lossesByCount(losses) {
		if i == maxRows {
			tell(1, "%s", text.Plural(len(losses)-i, "other kind of loss")) // cannot be, they are ours
			break
		}
		n := losses[what]
		what.Count = uint64(n)
		tell(n, "lost: %s", clip(words.Lost(what), maxCommand))
	}

	truncated, dropped, dead := 0, int64(0), 0
	for i := range x.Traces {
		t := &x.Traces[i].Culprit
		if t.Truncated {
			truncated++
			dropped += t.Lost
		}
		if t.State == event.StateLost {
			dead++
		}
	}
	tell(truncated, "%s reached capture.trace_bytes: %s of strace output not kept", text.Plural(truncated, "trace"), text.Size(dropped))
	tell(dead, "%s end abruptly: culprit died while they were written", text.Plural(dead, "trace"))

	reasons := map[string]int{}
	for i := range x.Hits {
		h := &x.Hits[i]
		if _, ok := x.proofOf[h.Event.ID]; !ok && h.Culprit.Proof == nil {
			reasons[cmp.Or(x.Unproven[h.Event.ID], words.NoCapture(h.Culprit.NoCapture), "the reason is not known")]++
		}
	}
	for i, why := range byCount(reasons) {
		if i == maxRows {
			tell(1, "and %s why packets have no proof", text.Plural(len(reasons)-i, "other reason"))
			break
		}
		tell(reasons[why], "%s without proof: %s", text.Plural(reasons[why], "packet"), clip(why, maxCommand))
	}
	tell(x.HitsLeftOut, "%s left out of this report", text.Plural(x.HitsLeftOut, "packet"))
	tell(x.TracesLeftOut, "%s left out of this report", text.Plural(x.TracesLeftOut, "trace"))
	tell(x.ProgramsLeftOut, "%s left out of this report", text.Plural(x.ProgramsLeftOut, "program"))
	tell(x.ProofsLeftOut, "%s left out of this report", text.Plural(x.ProofsLeftOut, "proof"))
	return all
}

// example describes a process that was not traced for this reason.
func (x *index) example(code event.UntracedCode) string {
	for _, m := range x.Capture.Culprit.Examples {
		if m.Reason.Code == code {
			detail := ""
			if m.Reason.Detail != "" {
				detail = ", " + clip(m.Reason.Detail, maxLabel)
			}
			return fmt.Sprintf(" (such as %d %s%s)", m.PID, clip(m.CommandLine, maxLabel), detail)
		}
	}
	return ""
}

func lost(l *event.Loss) string {
	return clip(words.Lost(l.Culprit), maxLabel)
}

// lossesByCount sorts losses by their number, the greatest first.
func lossesByCount(m map[event.LossDetail]int) []event.LossDetail {
	return slices.SortedFunc(maps.Keys(m), func(a, b event.LossDetail) int {
		return cmp.Or(cmp.Compare(m[b], m[a]), cmp.Compare(words.Loss(a), words.Loss(b)))
	})
}

// byCount sorts keys by their number, the greatest first.
func byCount[K ~string](m map[K]int) []K {
	return slices.SortedFunc(maps.Keys(m), func(a, b K) int {
		return cmp.Or(cmp.Compare(m[b], m[a]), cmp.Compare(a, b))
	})
}
