package report

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"path"
	"strings"
	"unicode/utf8"

	"culprit/internal/event"
	"culprit/internal/text"
	"culprit/internal/words"
)

// proof shows the lines of a trace that sent a packet.
type proof struct {
	Number         int
	Trace          string // its id
	Probable       bool
	Kernel         bool // the kernel saw the call send it
	Asks           string
	Facts          []fact
	Lines          []line
	LinesLeftOut   int
	Missing        string
	Dump           []string // of the packet, from its IP header on
	DumpLeftOut    int      // bytes
	PacketNotShown bool     // the hit is not in the report
}

// line of a trace. Cut counts characters that are not shown.
type line struct {
	Number int64
	Link   string // "": none
	Text   string
	Proof  bool
	Gap    bool
	Cut    int
}

// Shown returns the proofs that the report shows in full: these need an excerpt.
func (c *Case) Shown() []event.Proof {
	x := newIndex(c)
	suspects, _ := x.suspects()
	shown := x.shown(suspects)
	var proofs []event.Proof
	for i, p := range x.proofs {
		if shown[i] {
			proofs = append(proofs, *p)
		}
	}
	return proofs
}

// shown chooses the proofs that are shown: the first of each suspect, then by time.
func (x *index) shown(suspects []*suspect) map[int]bool {
	shown := map[int]bool{}
	for _, s := range suspects[:min(len(suspects), maxSuspects)] {
		if s.proof >= 0 {
			shown[s.proof] = true
		}
	}
	for i := 0; i < len(x.proofs) && len(shown) < maxProofs; i++ {
		shown[i] = true
	}
	return shown
}

// link removes the links to proofs that are not shown.
func (p *page) link(shown map[int]bool) {
	keep := func(number *int) {
		if !shown[*number-1] {
			*number = 0
		}
	}
	var walk func([]*node)
	walk = func(nodes []*node) {
		for _, n := range nodes {
			keep(&n.Proof)
			walk(n.Children)
		}
	}
	walk(p.Tree)
	for i := range p.Suspects {
		keep(&p.Suspects[i].Proof)
	}
}

func (x *index) proof(i int, p *event.Proof) proof {
	d := &p.Culprit
	v := proof{Number: i + 1, Trace: d.Trace.ID, Probable: d.Probable, Kernel: d.Kernel && !d.Probable, Asks: "a packet"}
	add := func(key, format string, args ...any) {
		v.Facts = append(v.Facts, fact{key, fmt.Sprintf(format, args...)})
	}
	process, exact := x.sender(p)
	if process != nil {
		who := describe(process)
		if !exact {
			who += ", or a descendant of it"
		}
		add("Process", "%s", who)
		if chain := parents(process); chain != "" {
			add("Started by", "%s", chain)
		}
	}
	excerpt := x.Excerpts[p.Event.ID]
	if process == nil || process.PID != d.TID || excerpt.Note != "" {
		add("Thread", "%s", clip(cmp.Or(excerpt.Note, fmt.Sprint(d.TID)), maxCommand))
	}
	add("System call", "%s at %s", clip(d.Syscall, maxLabel), text.Time(p.Timestamp))
	add("Trace", "%s of %s", words.Lines(d), clip(path.Base(p.File.Path), maxCommand))
	if v.Kernel {
		add("How", "%s", words.ProofGrade(d))
	}
	h := x.hits[d.Hit.ID]
	if h != nil {
		if h.Culprit.Sent != nil {
			add("Kernel saw", "%s", clip(words.Sent(h), maxCommand))
		}
		if h.Container != nil {
			add("Container", "%s", clip(words.Container(&h.Place), maxCommand))
		}
		if words.OtherUser(h) {
			add("Socket", "opened by %s", user(h.User))
		}
		v.Asks = asks(h)
		add("Packet", "%s, %d bytes, seen %s", way(h), cmp.Or(h.Network.Bytes, len(h.Packet)), text.Time(h.Timestamp))
		for i, q := range h.Culprit.Questions {
			if i == maxRows {
				add("", "and %d more questions", len(h.Culprit.Questions)-i)
				break
			}
			add("Question", "%s %s", clip(q.Question.Name, maxCommand), clip(q.Question.Type, maxLabel))
		}
		if entry := h.Entry(); entry != "" {
			add("Listed", "%s", clip(entry, maxCommand))
		}
		v.Facts = append(v.Facts, x.followed(h)...)
		if from := h.Culprit.ForwardedFrom; from != nil {
			add("Forwarded", "for %s", clip(words.Forwarded(from), maxCommand))
		}
		for i := range h.Culprit.Serves {
			add("Sends for", "%s", clip(words.Serves(&h.Culprit.Serves[i]), maxCommand))
		}
		if h.Culprit.Count > 1 {
			add("Repeated", "%d such packets within a second", h.Culprit.Count)
		}
		packet := h.Packet[:min(len(h.Packet), maxDump)]
		for l := range strings.Lines(hex.Dump(packet)) {
			v.Dump = append(v.Dump, strings.TrimRight(l, "\n"))
		}
		v.DumpLeftOut = max(len(h.Packet), h.Network.Bytes) - len(packet)
	}
	v.PacketNotShown = h == nil
	if d.Probable {
		add("Only probable", "%s", "all that is known of the packet agrees with the line, but some bytes are missing on one side")
	}
	v.Missing = clip(excerpt.Missing, maxCommand)
	v.excerpt(excerpt.Lines)
	if len(v.Lines) == 0 && v.Missing == "" {
		v.Missing = "the excerpt of the trace is not in this report"
	}
	return v
}

// excerpt takes the lines around the proof. If there are too many, it takes the nearest before it.
func (v *proof) excerpt(lines []Line) {
	if len(lines) > maxLines {
		at := 0
		for i := range lines {
			if lines[i].Proof {
				at = i
			}
		}
		from := min(max(0, at-maxLines*3/4), len(lines)-maxLines)
		v.LinesLeftOut = len(lines) - maxLines
		lines = lines[from : from+maxLines]
	}
	for _, l := range lines {
		most := maxLine
		if l.Proof {
			most = maxProofLine
		}
		shown := clip(strings.TrimRight(l.Text, "\r\n"), most)
		cut := 0
		if strings.HasSuffix(shown, "…") {
			cut = max(0, utf8.RuneCountInString(l.Text)-most)
		}
		v.Lines = append(v.Lines, line{l.Number, "", shown, l.Proof, l.Gap, cut})
	}
}
