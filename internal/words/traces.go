package words

import (
	"fmt"

	"culprit/internal/event"
)

// Proof says briefly which line of a trace sent a packet; "-" for nil.
func Proof(p *event.ProofDetail) string {
	switch {
	case p == nil:
		return "-"
	case p.Probable:
		return fmt.Sprintf("probably %s, line %d", p.Syscall, p.Line)
	}
	return fmt.Sprintf("%s, line %d", p.Syscall, p.Line)
}

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
	case event.FoundScan:
		return "scan of /proc"
	case event.FoundFork:
		return "fork (proc connector)"
	case event.FoundExec:
		return "execve (proc connector)"
	case event.FoundUID:
		return "change of UID (proc connector)"
	case event.FoundPoll:
		return "polling /proc"
	}
	return how
}
