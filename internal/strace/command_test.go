package strace

import (
	"strings"
	"testing"
)

func TestCommand(t *testing.T) {
	t.Parallel()
	p := Program{Path: "/usr/bin/strace", Stacks: "libunwind"}
	for _, tt := range []struct {
		o    Options
		want string
	}{
		{Options{Strings: 512}, "strace -f -ttt -T -yy -v -s 512 -o /proc/self/fd/3 -p 812"},
		{Options{Strings: 65535, Syscalls: "%network", Stacks: true}, "strace -f -ttt -T -yy -v -s 65535 -e trace=%network -k -o /proc/self/fd/3 -p 812"},
	} {
		if got := strings.Join(p.Command(tt.o, 812), " "); got != tt.want {
			t.Errorf("got  %s\nwant %s", got, tt.want)
		}
	}
	if got := strings.Join(Program{}.Command(Options{Strings: 1, Stacks: true}, 1), " "); strings.Contains(got, "-k") {
		t.Errorf("stack traces asked of a strace that has none: %s", got)
	}
}
