package strace

import "testing"

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
