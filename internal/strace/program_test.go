package strace

import (
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	t.Parallel()
	const rest = "\nCopyright (c) 1991-2022 The strace developers <https://strace.io>.\n\n"
	for _, tt := range []struct {
		out  string
		want Program
	}{
		{"strace -- version 6.1" + rest + "Optional features enabled: stack-trace=libunwind stack-demangle m32-mpers", Program{"", 6, 1, "libunwind"}},
		{"strace -- version 5.18" + rest + "Optional features enabled: stack-trace=libdw no-m32-mpers\n", Program{"", 5, 18, "libdw"}},
		{"strace -- version 6.16" + rest + "Optional features enabled: no-m32-mpers", Program{"", 6, 16, ""}},
		{"strace -- version 4.26.0.12.abc-dirty" + rest, Program{"", 4, 26, ""}},
	} {
		got, err := parse(tt.out)
		if err != nil || got != tt.want {
			t.Errorf("%q: %+v, %v", tt.out, got, err)
		}
	}
	if _, err := parse("ltrace version 0.7"); err == nil {
		t.Error("ltrace passed for strace")
	}
	if p := (Program{Major: 4, Minor: 26}); p.Before(4, 22) || !p.Before(5, 0) || !p.Before(4, 27) || p.Version() != "4.26" {
		t.Error("versions compare wrong")
	}
}

func TestFind(t *testing.T) {
	p, err := Find(t.Context())
	if err != nil || p.Path == "" || p.Major < 4 {
		t.Errorf("got %+v, %v", p, err)
	}
	t.Setenv("PATH", "")
	if _, err := Find(t.Context()); err != ErrNotInstalled {
		t.Errorf("got %v", err)
	}
}

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
