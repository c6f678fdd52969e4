package story

import (
	"fmt"
	"net/netip"
	"strings"

	"culprit/evidence/proof"
	"culprit/internal/dns"
	"culprit/internal/event"
	"culprit/internal/strace"
	"culprit/internal/text"
)

// address returns an address for people. strace does not know those of sockets of other network namespaces than its own.
func address(a netip.AddrPort) string {
	if !a.IsValid() {
		return "an unknown address"
	}
	return a.String()
}

// connecting says where a connect went. Over UDP it sends nothing.
func connecting(c *proof.Call) (s Step, ok bool) {
	to := address(c.Peer())
	switch {
	case c.Transport == "udp":
		return s, false
	case c.Error == "EINPROGRESS":
		return Step{What: "began to connect to", Object: to}, true
	case c.Error != "":
		return Step{What: "could not connect to", Object: to, Note: "(" + c.Error + ")"}, true
	}
	return Step{What: "connected to", Object: to}, true
}

// proven says what a line sent that is the proof of a hit, but does not show the question itself.
func proven(h *event.Hit) Step {
	to := netip.AddrPortFrom(h.Destination.IP, h.Destination.Port).String()
	what, object := "asked "+to+" for", h.Asks()
	if h.DNS == nil {
		what, object = "sent the packet to", to
	}
	return Step{What: what, several: what, Object: object, Packet: true}
}

// sends says what was sent, and to whom.
func (t *teller) sends(c *proof.Call) Step {
	var asked []string
	packet := false
	size := int64(0)
	for _, m := range c.Messages {
		size += int64(max(0, m.Size))
		data := m.Data
		if c.Transport == "tcp" {
			data = data[min(2, len(data)):] // the length
		}
		to := c.Peer()
		if q, ok := dns.ReadQuestion(data); ok && (t.answers.isServer(to) || !to.IsValid() && c.Transport == "udp") {
			asked = append(asked, q.Name+" "+q.Type)
			// The same question may go to several servers.
			packet = packet || to.IsValid() && len(t.answers.asked[askedBy(data, q)]) > 0
		}
	}
	if len(asked) > 0 {
		return Step{What: "asked " + address(c.Peer()) + " for", Object: strings.Join(asked, ", "), Packet: packet}
	}
	s := Step{several: sending, What: fmt.Sprintf("sent %s to", text.Size(size)), Object: address(c.Peer()), bytes: size, to: c.Peer()}
	if data := c.Messages[0].Data; len(data) > 0 {
		s.Note = "beginning " + string(strace.AppendQuoted(nil, data[:min(len(data), maxQuoted)], len(data) > maxQuoted))
	}
	return s
}

// told says what the program was told.
func (t *teller) told(l *line, a *Answer) {
	by := ""
	if a.From.IsValid() {
		by = "by " + a.From.String() + " "
	}
	s := Step{What: "was told " + by + "that", Object: a.Question.Name, Note: says(a), Time: a.Time}
	t.add(l, s)
}

// says returns what an answer says, to stand after the name.
func says(a *Answer) string {
	switch {
	case a.Truncated:
		return "has a long answer, to be asked for over TCP"
	case a.Code == "NXDOMAIN":
		return "does not exist (NXDOMAIN)"
	case a.Code != "NOERROR":
		return "cannot be looked up (" + a.Code + ")"
	case len(a.Records) == 0 && a.Missing == 0:
		return "has no " + a.Question.Type
	}
	var data []string
	for _, r := range a.Records {
		if len(data) == maxList {
			data = append(data, fmt.Sprintf("and %d more", len(a.Records)-maxList))
			break
		}
		if r.Type == "CNAME" {
			data = append(data, "an alias of "+r.Data)
		} else {
			data = append(data, r.Data)
		}
	}
	told := "is " + strings.Join(data, ", ")
	if a.Missing > 0 {
		told += fmt.Sprintf(" (and %s that the trace does not show)", text.Plural(a.Missing, "record"))
	}
	return told
}
