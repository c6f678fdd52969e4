package report

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"culprit/internal/event"
	"culprit/internal/text"
	"culprit/internal/words"
)

// piece is a part of a sentence. Code is what a machine or an adversary wrote.
type piece struct {
	Text string
	Code bool
}

// sentence is some of them.
type sentence []piece

// String returns the sentence for a terminal. What others wrote must not seem to end early.
func (s sentence) String() string {
	var whole strings.Builder
	for _, part := range s {
		if part.Code {
			part.Text = "`" + strings.ReplaceAll(part.Text, "`", `\x60`) + "`"
		}
		whole.WriteString(part.Text)
	}
	return whole.String()
}

func (s *sentence) say(format string, args ...any) {
	*s = append(*s, piece{Text: fmt.Sprintf(format, args...)})
}

// code adds what others wrote.
func (s *sentence) code(what string, most int) {
	*s = append(*s, piece{clip(what, most), true})
}

// process adds "`php cron.php` (PID 812, started by `sh -c …`, under `cron -f`)".
func (s *sentence) process(p *event.Process) {
	s.code(command(p), maxCommand)
	s.say(" (PID %d", p.PID)
	if p.Parent != nil {
		s.say(", started by ")
		s.code(command(p.Parent), maxLabel)
		if first := origin(p); first != p.Parent && first != p {
			s.say(", under ")
			s.code(command(first), maxLabel)
		}
	}
	s.say(")")
}

// summary says in two sentences what happened and who did it, and in a third what we do not know.
func (x *index) summary(suspects []*suspect, without int) []sentence {
	all := []sentence{x.happened()}
	if x.packets() == 0 {
		return all
	}
	var who sentence
	switch len(suspects) {
	case 0:
		return append(all, x.nobody())
	case 1:
		x.one(&who, suspects[0])
	default:
		n := text.Plural(len(suspects), "program")
		certain := slices.IndexFunc(suspects, func(s *suspect) bool { return s.sure < seen })
		known := "lines of their traces prove it"
		if slices.ContainsFunc(suspects, func(s *suspect) bool { return s.sure == seen }) {
			known = "lines of their traces prove it, or the kernel saw it"
		}
		switch certain {
		case -1:
			who.say("%s sent them: %s.", n, known)
		case 0:
			who.say("%s may have sent them, but no line of a trace proves it for any.", n)
		default:
			who.say("%s may have sent them. For %d it is certain: %s.", n, certain, known)
		}
		who.say(" The first is ")
		who.process(suspects[0].process)
		who.say(".")
	}
	all = append(all, who)
	if first := suspects[0]; first.hit != nil {
		if s := then(first.hit); s != nil {
			all = append(all, s)
		}
	}
	if without > 0 {
		var rest sentence
		rest.say("For %s of %d no program is known.", text.Plural(without, "packet"), len(x.Hits))
		all = append(all, rest)
	}
	return all
}

// happened says who asked for what, and when.
func (x *index) happened() sentence {
	var s sentence
	n := x.packets()
	if n == 0 || len(x.Hits) == 0 {
		c := &x.Capture
		s.say("On %s at %s a capture of ", day(c.Timestamp), clock(c.Timestamp))
		if c.Culprit.Scope != "container" {
			s.say("the user ")
		}
		s.code(c.Whose(), maxLabel)
		if n == 0 {
			s.say(" was started by hand: no suspicious packet was seen, %s attached.", text.Plural(c.Culprit.Traces, "strace"))
		} else {
			s.say(" began. It had %s, which are not in this report.", text.Plural(n, "packet"))
		}
		return s
	}
	first, last := &x.Hits[0], &x.Hits[len(x.Hits)-1]
	from, to := first.Timestamp, last.Timestamp
	switch {
	case n == 1 || day(from)+clock(from) == day(to)+clock(to):
		s.say("On %s at %s", day(from), clock(from))
	case day(from) == day(to):
		s.say("On %s between %s and %s", day(from), clock(from), clock(to))
	default:
		s.say("Between %s and %s", text.Time(from), text.Time(to))
	}
	s.say(" the user ")
	s.code(x.Capture.User.String(), maxLabel)
	if first.DNS == nil {
		s.say(" sent %s that matched the rule ", text.Plural(n, "packet"))
		s.code(first.Rule.Name, maxLabel)
		s.say(", the first to ")
		s.code(first.Destination.String(), maxLabel)
		s.say(".")
		return s
	}
	names := map[string]bool{}
	for i := range x.Hits {
		if d := x.Hits[i].DNS; d != nil {
			names[d.Question.Name] = true
		}
	}
	s.say(" asked for ")
	s.code(first.DNS.Question.Name, maxCommand)
	if more := len(names) - 1; more > 0 {
		s.say(" and %s", text.Plural(more, "other name"))
		if x.HitsLeftOut > 0 {
			s.say(" or more")
		}
	}
	if n > 1 {
		s.say(", in %s", text.Plural(n, "packet"))
	}
	if entry := first.Entry(); entry != "" {
		s.say(". The first is on a list: ")
		s.code(entry, maxCommand)
	}
	s.say(".")
	return s
}

// one says that it was this program, and how sure that is.
func (x *index) one(s *sentence, who *suspect) {
	var line string
	if who.proof >= 0 {
		line = words.Lines(&x.proofs[who.proof].Culprit) + " of its trace"
	}
	switch who.sure {
	case proven, seen:
		s.say("The program was ")
		if !who.exact {
			s.say("this, or was started by it: ")
		}
	case probable:
		s.say("The program was probably ")
	default:
		s.say("Most likely the program was ")
	}
	s.process(who.process)
	if len(who.pids) > 1 {
		s.say(", in %s", who.processes())
	}
	s.say(": ")
	switch who.sure {
	case proven:
		s.say("%s sent ", line)
		if n := who.packets[proven]; n > 1 {
			s.say("the first of %s that are proven.", text.Plural(n, "packet"))
		} else {
			s.say("the packet.")
		}
	case seen:
		s.say("the kernel saw it send the packet, but no line of a trace shows it")
		if why := x.Unproven[who.hit.Event.ID]; why != "" {
			s.say(" (%s)", clip(why, maxCommand))
		}
		s.say(".")
	case probable:
		s.say("all that is known of the packet agrees with %s, but some bytes are missing on one side.", line)
	default:
		s.say("it held the packet's socket when the packet was seen, but no line of a trace proves that it sent it")
		if why := x.Unproven[who.hit.Event.ID]; why != "" {
			s.say(" (%s)", clip(why, maxCommand))
		}
		s.say(".")
	}
}

// nobody says that we do not know who it was, and names the processes that lived then.
func (x *index) nobody() sentence {
	var s sentence
	s.say("The program is not known")
	var reason string
	candidates := map[string]int{}
	for i := range x.Hits {
		o := &x.Hits[i].Culprit.Origin
		reason = cmp.Or(reason, words.Unattributed(o), x.Unproven[x.Hits[i].Event.ID])
		for j := range o.Processes {
			candidates[command(&o.Processes[j])]++
		}
	}
	if reason != "" {
		s.say(": %s", clip(reason, maxCommand))
	}
	s.say(".")
	if len(candidates) == 0 {
		return s
	}
	s.say(" It may have been one of the user's processes of that time, but this is a guess: ")
	names := slices.SortedFunc(maps.Keys(candidates), func(a, b string) int {
		return cmp.Or(cmp.Compare(candidates[b], candidates[a]), cmp.Compare(a, b))
	})
	const some = 3
	for i, name := range names[:min(len(names), some)] {
		if i > 0 {
			s.say(", ")
		}
		s.code(name, maxLabel)
	}
	if len(names) > some {
		s.say(" and %d others", len(names)-some)
	}
	s.say(".")
	return s
}
