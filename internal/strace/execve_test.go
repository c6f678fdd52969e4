package strace

import (
	"strings"
	"testing"
)

// execve returns the program that process 812 becomes, according to the line.
func execve(line []byte) (Exec, bool) {
	tid, _, text := ParseLine(line)
	if text == nil || tid != 812 {
		return Exec{}, false
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
		{`812 1700000000.1 execve("/usr/bin/dig", ["dig", "cut off he`, "/usr/bin/dig", "dig"},
		{`812 1700000000.1 execve("/usr/bin/dig", [], []) = 0`, "/usr/bin/dig", ""},
		{`812 1700000000.1 execve("/bin/dig", ["dig"], []) = -1 ENOENT (No such file or directory) <0.000012>`, "", ""},
		{`812 1700000000.1 execve("/usr/bin/di`, "", ""},
		{`812 1700000000.1 execve("/usr/bin/dig", NULL, NULL) = 0`, "", ""},
		{`813 1700000000.1 execve("/bin/dig", ["dig"], []) = 0`, "", ""},
		{`812 1700000000.1 write(1, " execve(\"/bin/dig\", [\"dig\"], []) = 0", 9) = 9`, "", ""},
	} {
		e, ok := execve([]byte(tt.line))
		if ok != (tt.executable != "") {
			t.Errorf("%s: %v", tt.line, ok)
		} else if ok && (e.Executable != tt.executable || strings.Join(e.Args, " ") != tt.commandLine) {
			t.Errorf("%s: %+v", tt.line, e)
		}
	}
}

func TestExecveFailed(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]bool{
		`812 1700000000.1 <... execve resumed>) = -1 ENOENT (No such file or directory) <0.0001>`: true,
		`812 1700000000.1 <... execve resumed>) = 0 <0.0001>`:                                     false,
		`812 1700000000.1 <... open resumed>) = -1 ENOENT (No such file or directory) <0.0001>`:   false,
		`8123 1700000000.1 <... execve resumed>) = -1 ENOENT (No such file or directory)`:         false,
	} {
		tid, _, text := ParseLine([]byte(line))
		if got := text != nil && tid == 812 && text.ExecveFailed(); got != want {
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
		if e, ok := execve(line); ok && e.Name() == "" {
			t.Errorf("%q: %+v", line, e)
		}
	})
}
