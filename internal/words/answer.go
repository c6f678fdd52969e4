package words

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"culprit/internal/event"
	"culprit/internal/text"
)

// Told says what the sender of a hit was told: "192.0.2.7", "that the name does not exist
// (NXDOMAIN)". It returns "" if no answer is known. What it says is another's.
func Told(h *event.Hit) string {
	a, d := h.Culprit.Answer, h.DNS
	if a == nil || d == nil {
		return ""
	}
	switch {
	case a.Truncated:
		return "to ask again over TCP, as the answer is long"
	case d.ResponseCode == "NXDOMAIN":
		return "that the name does not exist (NXDOMAIN)"
	case d.ResponseCode != "NOERROR":
		return fmt.Sprintf("that the server cannot say (%s)", d.ResponseCode)
	case len(d.Answers) == 0 && a.Missing == 0:
		return fmt.Sprintf("that the name has no %s record", d.Question.Type)
	}
	const most = 6
	var told []string
	for _, ip := range d.ResolvedIP {
		told = append(told, ip.String())
	}
	if len(told) == 0 {
		for _, r := range d.Answers {
			told = append(told, r.Type+" "+r.Data)
		}
	}
	if more := len(told) - most; more > 0 {
		told = append(told[:most], fmt.Sprintf("and %d more", more))
	}
	if a.Missing > 0 {
		told = append(told, fmt.Sprintf("and %s that the line does not show", text.Plural(a.Missing, "record")))
	}
	return strings.Join(told, ", ")
}

// AnswerLine says from whom the answer came, and when.
func AnswerLine(h *event.Hit) string {
	a, sent := h.Culprit.Answer, h.Timestamp
	if h.Culprit.Sent != nil {
		sent = h.Culprit.Sent.Timestamp
	}
	from := "from " + a.Server.String()
	if !a.Server.IP.IsValid() {
		from = "from whom is not shown"
	}
	s := fmt.Sprintf("%s after the packet, %s (line %d of trace %s)", Length(a.Timestamp.Sub(sent)), from, a.Line, a.Trace.ID)
	if h.Culprit.Snapshot != nil {
		s += "; the program stood still for its snapshot meanwhile"
	}
	return s
}

// Shown is something in words, and the line that shows it.
type Shown struct {
	Text  string
	Trace string // its id
	Line  int64  // 0: there is none
}

// Then says what the program did with the addresses that it was told, the surest first.
func Then(h *event.Hit) (all []Shown) {
	a := h.Culprit.Answer
	if a == nil || len(h.DNS.ResolvedIP) == 0 {
		return nil
	}
	for _, c := range Connections(a) {
		in := ""
		if c.Trace.ID != a.Trace.ID {
			in = " of trace " + c.Trace.ID
		}
		s := fmt.Sprintf("%s, %s after the answer (line %d%s)", Connection(&c), Length(c.Timestamp.Sub(a.Timestamp)), c.Line, in)
		if len(c.Also) > 0 {
			s += fmt.Sprintf("; it was told the same address for %s, and may have meant that", strings.Join(c.Also, " and "))
		}
		all = append(all, Shown{s, c.Trace.ID, c.Line})
	}
	if a.MoreConnections > 0 {
		all = append(all, Shown{Text: fmt.Sprintf("and %s", text.Plural(a.MoreConnections, "more connection"))})
	}
	if len(all) == 0 {
		all = append(all, Shown{"no trace of it has a connection to it", "", 0})
	}
	return all
}

// Connections returns the connections after an answer, without those that only had the kernel look
// for a way to where another one went: to sort addresses, getaddrinfo connects a UDP socket to each.
func Connections(a *event.Answer) (all []event.Connection) {
	silent := func(c event.Connection) bool { return c.Transport == "udp" && c.Bytes == 0 }
	real := slices.ContainsFunc(a.Connections, func(c event.Connection) bool { return !silent(c) })
	for _, c := range a.Connections {
		if !real || !silent(c) {
			all = append(all, c)
		}
	}
	return all
}

// Connection says what a connection was: "connected to 192.0.2.7:443 over TCP, and sent 81 bytes".
func Connection(c *event.Connection) string {
	to := c.Destination.String()
	if c.Transport != "" {
		to += " over " + strings.ToUpper(c.Transport)
	}
	var s string
	switch {
	case c.Transport == "udp" && c.Bytes == 0:
		s = fmt.Sprintf("had the kernel look for a way to %s, which sends nothing", to)
	case c.Transport == "udp":
		s = fmt.Sprintf("sent %s to %s", text.Size(c.Bytes), to)
	case c.Bytes > 0:
		s = fmt.Sprintf("connected to %s, and sent %s", to, text.Size(c.Bytes))
	case c.Error == "":
		s = "connected to " + to
	case c.Error == "EINPROGRESS":
		s = fmt.Sprintf("began to connect to %s (whether it succeeded is not shown)", to)
	default:
		s = fmt.Sprintf("could not connect to %s (%s)", to, c.Error)
	}
	if c.Child {
		s = fmt.Sprintf("its child %d %s", c.TID, s)
	}
	return s
}

// Length writes how long something took, for people.
func Length(d time.Duration) string {
	switch {
	case d < 10*time.Millisecond:
		return d.Round(10 * time.Microsecond).String()
	case d < 10*time.Second:
		return d.Round(time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}
