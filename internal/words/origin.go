package words

import (
	"cmp"
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
	case event.GradeKernel:
		return "kernel: the kernel saw this process send the packet"
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
	case event.GradeKernel:
		since := ""
		if h.Culprit.Sent != nil && h.Culprit.Sent.Replaced {
			since = ", which had executed another program before anybody looked"
		}
		return fmt.Sprintf("kernel: the kernel saw process %s send the packet%s", h.Process, since)
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

// Sent says what the kernel saw of the sender: "thread 813 in sendfile". It names the effective user
// if another one opened the socket: "thread 813 of www-data (33) in sendfile".
func Sent(h *event.Hit) string {
	s := h.Culprit.Sent
	of := ""
	if OtherUser(h) {
		of = " of " + s.User.String()
	}
	return fmt.Sprintf("thread %d%s in %s", s.TID, of, cmp.Or(s.Syscall, "an unknown system call"))
}

// OtherUser reports whether the kernel saw another user send the packet than the one who opened its
// socket.
func OtherUser(h *event.Hit) bool {
	s := h.Culprit.Sent
	return s != nil && s.User.ID != "" && (h.User == nil || h.User.ID != s.User.ID)
}

// Sender names the sender of a packet briefly: "812 php cron.php", "2 candidates".
// A forwarder is no culprit: it names for whom one sent the packet, as far as that is known.
func Sender(h *event.Hit) string {
	o := &h.Culprit.Origin
	if f := forwardedSender(&h.Culprit); f != "" {
		return f
	}
	switch {
	case h.Process != nil:
		return servesFor(&h.Culprit) + h.Process.String()
	case o.Grade == event.GradeCandidates:
		return text.Plural(len(o.Processes)+o.More, "candidate")
	}
	return "unknown"
}

// Role says what part a process had in the packet, if it is the i-th (from 0) of the hit's
// senders.
func Role(o *event.Origin, i int) string {
	switch {
	case i == 0 && o.Grade == event.GradeProof:
		return "it sent the packet"
	case i == 0 && o.Grade == event.GradeKernel:
		return "the kernel saw it send the packet"
	}
	return "it held the packet's socket"
}
