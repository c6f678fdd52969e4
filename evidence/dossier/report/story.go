package report

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"culprit/evidence/story"
	"culprit/internal/event"
	"culprit/internal/text"
	"culprit/internal/words"
)

// A Story is what a program did before and after the packet of a hit.
type Story struct {
	Hit event.Hit
	// Traces have the lines that show it. Most steps are told by the first one.
	Traces []event.Trace
	Steps  []story.Step
}

// Row is a step of a story, for people. All its text is escaped.
type Row struct {
	When   string // from the packet on
	Who    string // program and thread
	What   sentence
	Lines  string // their numbers, in the second trace after "b:"
	First  story.Place
	Link   string // where that is shown; "": nowhere
	Packet bool
	Gap    bool
}

// String returns what happened, without who and when.
func (r *Row) String() string { return r.What.String() }

// Rows returns the steps.
func (s *Story) Rows() (rows []Row) {
	zero := sentAt(&s.Hit)
	if i := slices.IndexFunc(s.Steps, func(st story.Step) bool { return st.Packet }); i >= 0 {
		zero = s.Steps[i].Time
	}
	for i := range s.Steps {
		st := &s.Steps[i]
		r := Row{When: moment(st.Time.Sub(zero)), Who: fmt.Sprint(st.TID), Lines: s.numbers(st.Lines), Packet: st.Packet, Gap: st.Gap}
		if len(st.Lines) > 0 {
			r.First = st.Lines[0]
		}
		if st.Program != "" {
			r.Who = clip(st.Program, maxLabel) + " " + r.Who
		}
		r.What.say("%s", text.Escape(st.What))
		if st.Object != "" {
			r.What.say(" ")
			r.What.code(st.Object, maxCommand)
		}
		if st.Note != "" {
			r.What.say(" %s", clip(st.Note, maxCommand))
		}
		rows = append(rows, r)
	}
	return rows
}

// Notes says what the rows are and what they lack.
func (s *Story) Notes() (notes []string) {
	t := &s.Traces[0]
	numbers := "The numbers are lines of " + text.Escape(path.Base(t.File.Path))
	for i := range s.Traces[1:] {
		numbers += fmt.Sprintf("; those after %q of %s", letter(i+1), text.Escape(path.Base(s.Traces[i+1].File.Path)))
	}
	notes = append(notes, fmt.Sprintf("Times are from the packet on, which was sent at %s. %s.", text.Time(sentAt(&s.Hit)), numbers))
	switch {
	case t.Culprit.LookBack != nil:
		for _, line := range words.LookBack(t.Culprit.LookBack) {
			notes = append(notes, upper(line)+".")
		}
	case !t.Culprit.FromStart:
		notes = append(notes, "The trace begins "+t.Culprit.Life()+": what was before is not known.")
	}
	if s.Hit.Culprit.Snapshot != nil {
		notes = append(notes, "After the packet culprit held the program still for its snapshot: without culprit, what followed would have come sooner.")
	}
	return notes
}

// letter stands before the numbers of lines of a trace that is not the first: "b:", "c:" …
func letter(trace int) string { return string(rune('a'+trace)) + ":" }

// moment writes when something was: "-16.2 ms", "+1.204 s".
func moment(d time.Duration) string {
	switch far := d.Abs(); {
	case far < 50*time.Microsecond:
		return "0"
	case far < time.Second:
		return fmt.Sprintf("%+.1f ms", float64(d)/float64(time.Millisecond))
	case far < time.Minute:
		return fmt.Sprintf("%+.3f s", d.Seconds())
	}
	sign := "+"
	if d < 0 {
		sign = "-"
	}
	return sign + short(d.Abs().Round(time.Second))
}

// numbers writes the numbers of lines briefly.
func (s *Story) numbers(lines []story.Place) string {
	const most = 3
	name := func(p story.Place) string {
		i := slices.IndexFunc(s.Traces, func(t event.Trace) bool { return t.Event.ID == p.Trace })
		if i > 0 {
			return letter(i) + fmt.Sprint(p.Line)
		}
		return fmt.Sprint(p.Line)
	}
	if len(lines) > most {
		return name(lines[0]) + " to " + name(lines[len(lines)-1])
	}
	var all []string
	for _, p := range lines {
		all = append(all, name(p))
	}
	return strings.Join(all, ", ")
}

// account is a story on the page.
type account struct {
	Title string
	Facts []fact
	Rows  []Row
	Notes []string
}

func (x *index) account(s *Story) account {
	a := account{Title: asks(&s.Hit), Rows: s.Rows(), Notes: s.Notes()}
	if p := s.Hit.Process; p != nil {
		a.Title = describe(p)
		if chain := parents(p); chain != "" {
			a.Facts = append(a.Facts, fact{"Started by", chain})
		}
	}
	return a
}

// followed says what followed a packet, in two facts.
func (x *index) followed(h *event.Hit) (facts []fact) {
	told := words.Told(h)
	if told == "" {
		if why := x.Unanswered[h.Event.ID]; why != "" {
			facts = append(facts, fact{"Answer", clip(why, maxCommand)})
		}
		return facts
	}
	facts = append(facts, fact{"Was told", clip(told, maxCommand)}, fact{"", clip(words.AnswerLine(h), maxCommand)})
	for i, shown := range words.Then(h) {
		key := ""
		if i == 0 {
			key = "Then"
		}
		facts = append(facts, fact{key, clip(shown.Text, maxCommand)})
	}
	return facts
}

// then says in a sentence what the sender of a hit was told, and what it did then. It is empty if
// that is not known.
func then(h *event.Hit) (s sentence) {
	told := words.Told(h)
	if told == "" {
		return nil
	}
	s.say("It was told ")
	s.code(told, maxCommand)
	a := h.Culprit.Answer
	if all := words.Connections(a); len(all) > 0 {
		c := &all[0]
		s.say(", and %s later %s", words.Length(c.Timestamp.Sub(a.Timestamp)), clip(words.Connection(c), maxCommand))
		if len(c.Also) > 0 {
			s.say(" (it was told the same address for another name, too)")
		}
		if more := len(all) - 1 + a.MoreConnections; more > 0 {
			s.say(", and %s to it", text.Plural(more, "more connection"))
		}
	}
	s.say(".")
	return s
}

// sentAt returns when a packet was sent, as well as we know.
func sentAt(h *event.Hit) time.Time {
	if s := h.Culprit.Sent; s != nil {
		return s.Timestamp
	}
	return h.Timestamp
}
