package strace

import (
	"testing"

	"culprit/internal/event"
)

func TestAttached(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]bool{
		"strace: Process 812 attached":                true,
		"strace: Process 812 attached with 3 threads": true,
		"/usr/bin/strace: Process 812 attached":       true,
		"strace: Process 8123 attached":               false,
		"strace: Process 812 detached":                false,
		"812 write(2, \"strace: Process 812 attached": false,
	} {
		if got := Attached(line, 812); got != want {
			t.Errorf("Attached(%q) = %v", line, got)
		}
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		stderr string
		why    event.UntracedCode
		said   string
	}{
		{"strace: attach: ptrace(PTRACE_SEIZE, 9): No such process\n", event.UntracedGone, "attach: ptrace(PTRACE_SEIZE, 9): No such process"},
		{"strace: attach: ptrace(PTRACE_SEIZE, 9): Operation not permitted\nstrace: x\n", event.UntracedRefused, "attach: ptrace(PTRACE_SEIZE, 9): Operation not permitted"},
		{"", event.UntracedSilent, ""},
		{"\n", event.UntracedSilent, ""},
		{"strace: invalid option -- 'k'\nTry 'strace -h' for more information.\n", event.UntracedOther, "invalid option -- 'k'"},
	} {
		if why, said := Refused(tt.stderr); why != tt.why || said != tt.said {
			t.Errorf("%q: %s, %q; want %s, %q", tt.stderr, why, said, tt.why, tt.said)
		}
	}
}
