package strace

import (
	"strings"
	"testing"
)

// execve returns the program that process 812 is to become, according to the line.
func execve(line []byte) (executable string, args []string, ok bool) {
	tid, _, text := ParseLine(line)
	if text == nil || tid != 812 {
		return "", nil, false
	}
	return text.Execve()
}

func TestExecve(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ line, executable, commandLine string }{
		{`812 1700000000.1 execve("/usr/bin/dig", ["dig", "+short", "x\"y"], ["A=B", "C=[\"D\"]"]) = 0 <0.0002>`, "/usr/bin/dig", `dig +short x"y`},
		{`812 1700000000.1 execve("/usr/bin/dig", ["dig"], 0x7ffd /* 9 vars */ <unfinished ...>`, "/usr/bin/dig", "dig"},
		{`812 1700000000.1 execve("/a\33[2Jb\n\101", ["a\0012"...], []) = 0`, "/a\x1b[2Jb\nA", "a\x012"},
		{`812 1700000000.1 execve("/\x61\xff", ["\x61"], []) = 0`, "/a\xff", "a"}, // strace -x
		{`812 1700000000.1 execve("/usr/bin/dig", ["dig", "cut off he`, "/usr/bin/dig", "dig cut off he"},
		{`812 1700000000.1 execve("/usr/bin/dig", ["dig", "cut off he\37`, "/usr/bin/dig", "dig cut off he"},
		{`812 1700000000.1 execve("/usr/bin/dig", ["dig", `, "/usr/bin/dig", "dig"},
		{`812 1700000000.1 execve("/usr/bin/dig", [], []) = 0`, "/usr/bin/dig", ""},
		{`812 1700000000.1 execve("/bin/dig", ["dig"], []) = -1 ENOENT (No such file or directory) <0.000012>`, "/bin/dig", "dig"}, // see below
		{`812 1700000000.1 execve("/usr/bin/di`, "", ""},
		{`812 1700000000.1 execve("/usr/bin/dig", NULL, NULL) = 0`, "", ""},
		{`813 1700000000.1 execve("/bin/dig", ["dig"], []) = 0`, "", ""},
		{`812 1700000000.1 write(1, " execve(\"/bin/dig\", [\"dig\"], []) = 0", 9) = 9`, "", ""},
	} {
		executable, args, ok := execve([]byte(tt.line))
		if ok != (tt.executable != "") || executable != tt.executable || strings.Join(args, " ") != tt.commandLine {
			t.Errorf("%s: %v, %q %q", tt.line, ok, executable, args)
		}
	}
}

func TestExecveSucceeded(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]bool{
		`execve("/bin/dig", ["dig"], []) = 0 <0.0002>`:                                          true,
		`execve("/bin/dig", ["dig"], [])   = 0`:                                                 true,
		`<... execve resumed>) = 0 <0.0001>`:                                                    true,
		`execve("/bin/dig", ["dig"], []) = -1 ENOENT (No such file or directory) <0.000012>`:    false,
		`<... execve resumed>) = -1 ENOENT (No such file or directory) <0.0001>`:                false,
		`execve("/bin/dig", ["dig"], []) = ? ERESTARTNOHAND (To be restarted if no handler)`:    false,
		`execve("/bin/dig", ["dig", ") = 0"], [] <unfinished ...>`:                              false,
		`execve("/bin/dig", ["dig"], ["A=) = 0"] <detached ...>`:                                false,
		`execve("/bin/dig", ["dig"], ["A=) = 0"]) = -1 EACCES (Permission denied) <0.000012>`:   false,
		`execve("/bin/dig", ["dig", ") = 0 <0.1>"...], []) = -1 E2BIG (Argument list too long)`: false,
		`execve("/bin/dig", ["dig"], ["A=B) = 0 <0.1>"]) = ? <unavailable>`:                     false,
	} {
		if got := ExecveSucceeded([]byte(line)); got != want {
			t.Errorf("%s: %v", line, got)
		}
	}
}

func FuzzExecve(f *testing.F) {
	f.Add([]byte(`812 1700000000.1 execve("/a\33[2Jb\n\777", ["a\0012"..., "\\"], []) = 0`))
	f.Add([]byte(`812 1700000000.1 execve("/bin/a", ["a", "b`))               // cut in an argument
	f.Add([]byte(`813 1700000000.1 execve("/bin/a", ["a"], []) = 0`))         // another thread
	f.Add([]byte(`812 1700000000.1 close(3) = 0`))                            // another call
	f.Add([]byte(`812 1700000000.1 execve("", ["\08"], [] <unfinished ...>`)) // 8 is not an octal digit
	f.Fuzz(func(t *testing.T, line []byte) {
		if executable, args, ok := execve(line); !ok && (executable != "" || args != nil) {
			t.Errorf("%q: %q %q", line, executable, args)
		}
	})
}

// exitStatus returns that of process 812, according to the line.
func exitStatus(line []byte) (code int, ok bool) {
	tid, _, text := ParseLine(line)
	if text == nil || tid != 812 {
		return 0, false
	}
	return text.ExitStatus()
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
		{"812 1700000000.123456 +++ killed by SIGNOTHING +++", 128, true},
		{"812 1700000000.123456 +++ exited with -1 +++", 0, false},
		{"813 1700000000.123456 +++ exited with 3 +++", 0, false},
		{`812 1700000000.123456 write(1, "\n812 1700000000.1 +++ exited with 3 +++`, 0, false},
		{"812 1700000000.123456 +++ superseded by execve in pid 813 +++", 0, false},
		{"", 0, false},
	} {
		if code, ok := exitStatus([]byte(tt.line)); code != tt.code || ok != tt.ok {
			t.Errorf("%q: status %d, %v; want %d, %v", tt.line, code, ok, tt.code, tt.ok)
		}
	}
}

func FuzzExitStatus(f *testing.F) {
	f.Add([]byte("812 1700000000.1 +++ killed by SIGRT_99999999999999999999 +++"))
	f.Add([]byte("812 1700000000.1 +++ exited with 3 +++"))
	f.Add([]byte("813 1700000000.1 +++ exited with 3 +++")) // another thread
	f.Fuzz(func(t *testing.T, line []byte) {
		if code, ok := exitStatus(line); ok && code < 0 {
			t.Errorf("%q: status %d", line, code)
		}
	})
}
