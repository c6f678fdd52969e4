package capture

import (
	"strings"
	"testing"

	"culprit/internal/config"
	"culprit/internal/event"
	"culprit/internal/strace"
)

func TestCommand(t *testing.T) {
	t.Parallel()
	p := strace.Program{Path: "/usr/bin/strace", Stacks: "libunwind"}
	got := strings.Join(command(p, config.Level{Strings: 65535, Syscalls: "%network", Stacks: true}, 812), " ")
	const want = "strace -f -ttt -T -yy -v -s 65535 -e trace=%network -k -o /proc/self/fd/3 -p 812"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

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
