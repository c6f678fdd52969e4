package capture

import (
	"strings"
	"testing"

	"culprit/internal/config"
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
