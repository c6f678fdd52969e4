package pcapng

import (
	"fmt"
	"strings"

	"culprit/internal/event"
	"culprit/internal/text"
	"culprit/internal/words"
)

// maxValue bounds a line of a comment, in bytes: a long command line must leave room for the rest.
const maxValue = 4096

// Comment says who sent the packet of a hit: rule, user, process, trace file and the lines that
// prove it. Each has its own line, which begins with its name. Newlines in what others wrote are
// escaped, so nobody can add a line.
//
// proof is nil if there is none. traceFile is the path of the trace as the reader of the packets
// finds it; if it is empty, the proof's path is used.
func Comment(h *event.Hit, proof *event.Proof, traceFile string) string {
	var lines []string
	line := func(key, format string, args ...any) {
		value := text.Escape(fmt.Sprintf(format, args...))
		if len(value) > maxValue {
			value = strings.ToValidUTF8(value[:maxValue], "") + "…"
		}
		lines = append(lines, key+": "+value)
	}
	line("hit", "%s", h.Event.ID)
	line("rule", "%s", h.Rule)
	if entry := h.Entry(); entry != "" {
		line("listed", "%s", entry)
	}
	line("user", "%s", h.User.String())
	if h.Container != nil {
		line("container", "%s", words.Container(&h.Place))
	}
	if h.Culprit.Netns != nil {
		line("namespace", "%s", h.Culprit.Netns)
	}
	o := &h.Culprit.Origin
	for i, p := range h.Senders() {
		line("process", "%s (%s)", &p, words.Role(o, i))
		for _, parent := range p.Ancestry() {
			line("started by", "%s", parent)
		}
	}
	if h.Culprit.Sent != nil {
		line("sent", "the kernel saw %s", words.Sent(h))
	}
	if h.Process != nil && o.More > 0 {
		line("process", "and %d more that held the packet's socket", o.More)
	}
	if h.Process == nil {
		for i := range o.Processes {
			line("candidate", "%s", &o.Processes[i])
		}
		if o.More > 0 {
			line("candidates", "and %d more", o.More)
		}
		if o.Reason != nil {
			line("process", "not known for sure: %s", words.Unattributed(o))
		}
	}
	if traceFile == "" && proof != nil {
		traceFile = proof.File.Path
	}
	if traceFile != "" {
		line("trace", "%s", traceFile)
	}
	if proof != nil {
		p, how := &proof.Culprit, "sent this packet"
		switch {
		case p.Probable:
			how = "probably sent this packet: what both show agrees"
		case p.Kernel:
			how += ": " + words.KernelProof
		}
		line("proof", "%s: %s of thread %d %s", words.Lines(p), p.Syscall, p.TID, how)
	}
	if h.Culprit.Count > 1 {
		line("repeated", "%d such packets came within a second", h.Culprit.Count)
	}
	if h.Culprit.Truncated {
		line("cut", "only the first %d bytes were logged", len(h.Packet))
	}
	return strings.Join(lines, "\n")
}
