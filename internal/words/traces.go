package words

import (
	"fmt"

	"culprit/internal/event"
)

// Proof says in a few words which line of a trace sent a packet; nil: "-".
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
