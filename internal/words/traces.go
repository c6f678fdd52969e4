package words

import (
	"fmt"
	"strings"

	"culprit/internal/event"
)

// Proof says briefly which lines of a trace sent a packet; "-" for nil.
func Proof(p *event.ProofDetail) string {
	if p == nil {
		return "-"
	}
	s := fmt.Sprintf("%s, %s", p.Syscall, Lines(p))
	switch {
	case p.Probable:
		return "probably " + s
	case p.Kernel:
		return s + ", as the kernel saw"
	}
	return s
}

// Lines names the lines of a proof: "line 12", "lines 10, 11 and 12", "60 lines from 10 to 99".
func Lines(p *event.ProofDetail) string {
	const most = 4
	n := len(p.Parts)
	switch {
	case n == 0:
		return fmt.Sprintf("line %d", p.Line)
	case n >= most:
		return fmt.Sprintf("%d lines from %d to %d", n+1, p.Parts[0].Line, p.Line)
	}
	var earlier []string
	for _, l := range p.Parts {
		earlier = append(earlier, fmt.Sprint(l.Line))
	}
	return fmt.Sprintf("lines %s and %d", strings.Join(earlier, ", "), p.Line)
}

// ProofGrade says what the lines of a proof are, to stand before them.
func ProofGrade(p *event.ProofDetail) string {
	switch several := len(p.Parts) > 0; {
	case p.Probable && several:
		return "probable: these lines agree with the packet in all that both show"
	case p.Probable:
		return "probable: this line agrees with the packet in all that both show"
	case p.Kernel && several:
		return KernelProof + " (the last of several that made it)"
	case p.Kernel:
		return KernelProof
	case several:
		return "these lines sent the packet"
	}
	return "this line sent the packet"
}

// KernelProof says what a proof by the kernel's word is.
const KernelProof = "the kernel saw this call send the packet; its bytes do not show"

// TraceState says whether a trace runs, or why it ended.
func TraceState(t *event.Trace) string {
	if t.Culprit.EndedBecause != nil {
		return TraceEnded(t.Culprit.EndedBecause)
	}
	return t.Culprit.State
}

// FoundBy says how the process of a trace was found.
func FoundBy(how string) string {
	switch how {
	case event.FoundGate:
		return "gate (held in its execve)"
	case event.FoundPacket:
		return "packet (stopped by the kernel when it sent the packet)"
	case event.FoundLookBack:
		return "look-back (what it did before its packet, kept in memory)"
	case event.FoundScan:
		return "scan of /proc"
	case event.FoundFork:
		return "its fork"
	case event.FoundExec:
		return "its execve"
	case event.FoundUID:
		return "its change of UID"
	case event.FoundPoll:
		return "polling /proc"
	}
	return how
}
