package words

import (
	"fmt"
	"strings"

	"culprit/internal/event"
	"culprit/internal/text"
)

// Grade says how certain the sender of a packet is, to stand before the processes of the
// origin.
func Grade(o *event.Origin) string {
	switch o.Grade {
	case event.GradeProof:
		if o.Reason != nil {
			return "proof: this process sent the packet, but " + Unattributed(o)
		}
		return "proof: this process sent the packet"
	case event.GradeSocket:
		return "socket: this process held the packet's socket"
	case event.GradeCandidates:
		return "candidates: a guess, because " + Unattributed(o) + "; processes of the user at that moment"
	}
	return "none: " + Unattributed(o)
}

// Origin says in one line who sent a packet, and how certain that is.
func Origin(h *event.Hit) string {
	o := &h.Culprit.Origin
	switch o.Grade {
	case event.GradeSocket:
		others := ""
		if n := len(o.Processes) + o.More; n > 0 {
			others = " and shares it with " + text.Plural(n, "other")
		}
		return fmt.Sprintf("socket: process %s holds the packet's socket%s", h.Process, others)
	case event.GradeCandidates:
		var names []string
		for i := range o.Processes {
			names = append(names, o.Processes[i].String())
		}
		more := ""
		if o.More > 0 {
			more = fmt.Sprintf(" and %d more", o.More)
		}
		return fmt.Sprintf("candidates (a guess, %s): %s%s", Unattributed(o), strings.Join(names, "; "), more)
	}
	return Grade(o)
}

// Sender names the sender of a packet briefly: "812 php cron.php", "2 candidates".
func Sender(h *event.Hit) string {
	o := &h.Culprit.Origin
	switch {
	case h.Process != nil:
		return h.Process.String()
	case o.Grade == event.GradeCandidates:
		return text.Plural(len(o.Processes)+o.More, "candidate")
	}
	return "unknown"
}

// Role says what part a process had in the packet, if it is the i-th (from 0) of the hit's
// senders.
func Role(o *event.Origin, i int) string {
	if i == 0 && o.Grade == event.GradeProof {
		return "it sent the packet"
	}
	return "it held the packet's socket"
}
