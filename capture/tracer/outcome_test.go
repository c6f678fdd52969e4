package tracer

import (
	"testing"

	"culprit/internal/event"
)

func TestRefusal(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]event.UntracedCode{
		"strace: attach: ptrace(PTRACE_SEIZE, 9): No such process\n":         event.UntracedGone,
		"strace: attach: ptrace(PTRACE_SEIZE, 9): Operation not permitted\n": event.UntracedRefused,
		"":                                event.UntracedSilent,
		"strace: invalid option -- 'k'\n": event.UntracedOther,
	} {
		if why := refusal(in); why.Code != want {
			t.Errorf("%q became %v, want %q", in, why, want)
		}
	}
}
