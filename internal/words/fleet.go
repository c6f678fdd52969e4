package words

import "culprit/internal/event"

// Elsewhere says where the traces of a capture are that are not in the mirror, and how to get them.
func Elsewhere(h *event.Host, capture string) string {
	return "the trace is on host " + h.String() + ": culprit fleet fetch " + capture + " gets it"
}
