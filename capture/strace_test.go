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
	for _, tt := range []struct {
		level config.Level
		want  string
	}{
		{config.Level{Strings: 512}, "strace -f -ttt -T -yy -v -s 512 -o /proc/self/fd/3 -p 812"},
		{config.Level{Strings: 65535, Syscalls: "%network", Stacks: true}, "strace -f -ttt -T -yy -v -s 65535 -e trace=%network -k -o /proc/self/fd/3 -p 812"},
	} {
		if got := strings.Join(command(p, tt.level, 812), " "); got != tt.want {
			t.Errorf("got  %s\nwant %s", got, tt.want)
		}
	}
	if got := strings.Join(command(strace.Program{}, config.Level{Strings: 1, Stacks: true}, 1), " "); strings.Contains(got, "-k") {
		t.Errorf("stack traces asked of a strace that has none: %s", got)
	}
}

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
		if got := attached(line, 812); got != want {
			t.Errorf("attached(%q) = %v", line, got)
		}
	}
}

func TestExitStatus(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		line string
		code int
		ok   bool
	}{
		{"812   1700000000.123456 +++ exited with 3 +++", 3, true},
		{"812 1700000000.123456 +++ killed by SIGKILL +++", 137, true},
		{"812 1700000000.123456 +++ killed by SIGSEGV (core dumped) +++", 139, true},
		{"812 1700000000.123456 +++ killed by SIGRT_2 +++", 162, true},
		{"813 1700000000.123456 +++ exited with 3 +++", 0, false},
		{`812 1700000000.123456 write(1, "\n812 1700000000.1 +++ exited with 3 +++`, 0, false},
		{"812 1700000000.123456 +++ superseded by execve in pid 813 +++", 0, false},
		{"", 0, false},
	} {
		if code, ok := exitStatus([]byte(tt.line), 812); code != tt.code || ok != tt.ok {
			t.Errorf("%q: status %d, %v; want %d, %v", tt.line, code, ok, tt.code, tt.ok)
		}
	}
}

func FuzzExitStatus(f *testing.F) {
	f.Add([]byte("812 1700000000.1 +++ killed by SIGRT_99999999999999999999 +++"))
	f.Add([]byte("812 1700000000.1 +++ exited with 3 +++"))
	f.Add([]byte("813 1700000000.1 +++ exited with 3 +++")) // another thread
	f.Fuzz(func(t *testing.T, line []byte) {
		if code, ok := exitStatus(line, 812); ok && code < 0 {
			t.Errorf("%q: status %d", line, code)
		}
	})
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

func TestExecve(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ line, executable, commandLine string }{
		{`812 1700000000.1 execve("/usr/bin/dig", ["dig", "+short", "x\"y"], ["A=B", "C=[\"D\"]"]) = 0 <0.0002>`, "/usr/bin/dig", `dig +short x"y`},
		{`812 1700000000.1 execve("/usr/bin/dig", ["dig"], 0x7ffd /* 9 vars */ <unfinished ...>`, "/usr/bin/dig", "dig"},
		{`812 1700000000.1 execve("/a\33[2Jb\n\101", ["a\0012"...], []) = 0`, "/a\x1b[2Jb\nA", "a\x012"},
		{`812 1700000000.1 execve("/usr/bin/dig", ["dig", "cut off he`, "/usr/bin/dig", "dig"},
		{`812 1700000000.1 execve("/bin/dig", ["dig"], []) = -1 ENOENT (No such file or directory) <0.000012>`, "", ""},
		{`813 1700000000.1 execve("/bin/dig", ["dig"], []) = 0`, "", ""},
		{`812 1700000000.1 write(1, " execve(\"/bin/dig\", [\"dig\"], []) = 0", 9) = 9`, "", ""},
	} {
		p, ok := execve([]byte(tt.line), 812)
		if ok != (tt.executable != "") {
			t.Errorf("%s: %v", tt.line, ok)
		} else if ok && (p.executable != tt.executable || p.commandLine != tt.commandLine) {
			t.Errorf("%s: %+v", tt.line, p)
		}
	}
}

func TestExecveFailed(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]bool{
		`812 1700000000.1 <... execve resumed>) = -1 ENOENT (No such file or directory) <0.0001>`: true,
		`812 1700000000.1 <... execve resumed>) = 0 <0.0001>`:                                     false,
		`8123 1700000000.1 <... execve resumed>) = -1 ENOENT (No such file or directory)`:         false,
	} {
		if got := execveFailed([]byte(line), 812); got != want {
			t.Errorf("%s: %v", line, got)
		}
	}
}

func FuzzExecve(f *testing.F) {
	f.Add([]byte(`812 1700000000.1 execve("/a\33[2Jb\n\777", ["a\0012"..., "\\"], []) = 0`))
	f.Add([]byte(`812 1700000000.1 execve("/bin/a", ["a", "b`))               // cut in an argument
	f.Add([]byte(`813 1700000000.1 execve("/bin/a", ["a"], []) = 0`))         // another thread
	f.Add([]byte(`812 1700000000.1 close(3) = 0`))                            // another call
	f.Add([]byte(`812 1700000000.1 execve("", ["\08"], [] <unfinished ...>`)) // 8 is no octal digit
	f.Fuzz(func(t *testing.T, line []byte) {
		if p, ok := execve(line, 812); ok && p.name == "" {
			t.Errorf("%q: %+v", line, p)
		}
	})
}
