package words

import (
	"fmt"
	"strings"

	"culprit/internal/event"
	"culprit/internal/text"
)

// Forwarded says for whom a forwarder sent a packet, and how that is known: "process 812 nslookup x, user 100033 (www-data in
// web-1), container web-1: hit 01J…, origin by kernel; it is the same message, with its id".
func Forwarded(f *event.Forwarded) string {
	var b strings.Builder
	if f.Process != nil {
		fmt.Fprintf(&b, "process %s, ", f.Process)
	}
	if f.User != nil {
		fmt.Fprintf(&b, "user %s, ", f.User)
	}
	if f.Container != nil {
		fmt.Fprintf(&b, "container %s, ", Place(&f.Place))
	}
	fmt.Fprintf(&b, "hit %s", f.ID)
	if f.Grade != "" {
		fmt.Fprintf(&b, ", origin by %s", f.Grade)
	}
	switch f.How {
	case event.ForwardedMessage:
		b.WriteString("; it is the same message, with its id")
	case event.ForwardedQuestion:
		b.WriteString("; it asks the same")
	}
	return b.String()
}

// PerhapsForwarded says the same of a hit for which a packet may have been forwarded.
func PerhapsForwarded(d *event.HitDetail, f *event.Forwarded) string {
	if takenForForwarder(d) {
		return "for this one, or another: " + Forwarded(f)
	}
	return "perhaps for this one, if its sender did not make it by itself: " + Forwarded(f)
}

func takenForForwarder(d *event.HitDetail) bool {
	return d.NoCapture != nil && d.NoCapture.Code == event.NoCaptureForwarded
}

// Serves says what a process that has a device of another network namespace may send, and no more.
func Serves(s *event.Served) string {
	what := "network namespace " + s.Netns.String()
	if s.Netns.Owner != nil {
		what += " of " + s.Netns.Owner.String()
	}
	if s.Container != nil {
		what += ", in it container " + Container(&s.Place)
	}
	return what + ": the sender holds its network device, so it may have sent this for a program there"
}

// forwardedSender names briefly who asked for what a forwarder sent, or returns "".
func forwardedSender(d *event.HitDetail) string {
	switch from := d.ForwardedFrom; {
	case from != nil && from.Process != nil:
		return "forwarded for " + from.Process.String()
	case from != nil:
		return "forwarded for hit " + from.ID
	case len(d.ForwardedCandidates) > 0 && takenForForwarder(d):
		return "forwarded for one of " + text.Plural(len(d.ForwardedCandidates), "program")
	}
	return ""
}

// servesFor names briefly for whom a sender may have sent a packet, or returns "".
func servesFor(d *event.HitDetail) string {
	if len(d.Serves) == 0 {
		return ""
	}
	s := &d.Serves[0]
	who := "netns " + s.Netns.String()
	if s.Container != nil {
		who = Place(&s.Place)
	}
	return "for " + who + "? "
}
