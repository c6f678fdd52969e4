package tracer

import (
	"io"
	"strings"
	"testing"
)

// What a trace says of other threads, and an execve that failed, changes nothing.
func TestFate(t *testing.T) {
	t.Parallel()
	const begun = `812 1700000000.1 execve("/usr/bin/dig", ["dig", "x\"y z"], 0x7ffd /* 9 vars */ <unfinished ...>`
	const failed = `812 1700000000.1 <... execve resumed>) = -1 ENOENT (No such file or directory) <0.0001>`
	for _, tt := range []struct {
		name, became string
		exit         int // -1: none
		lines        []string
	}{
		{"nothing", "", -1, []string{"# ended: x", "812 1700000000.1 close(3) = 0", " > /lib/libc.so.6(close+0x1) [0x1]"}},
		{"complete", "dig /usr/bin/dig dig -x", 3, []string{
			`812 1700000000.1 execve("/usr/bin/dig", ["dig", "-x"], []) = 0 <0.0002>`,
			"812 1700000000.2 +++ exited with 3 +++",
		}},
		{"unfinished", `dig /usr/bin/dig dig x"y z`, -1, []string{begun, "812 1700000000.1 <... execve resumed>) = 0 <0.0001>"}},
		{"failed in the end", "", -1, []string{begun, "813 1700000000.1 close(3) = 0", failed}},
		{"failed after another", "sh /bin/sh sh", 137, []string{
			`812 1700000000.1 execve("/bin/sh", ["sh"], []) = 0`, begun, failed, "812 1700000000.2 +++ killed by SIGKILL +++",
		}},
		{"failed at once", "", -1, []string{`812 1700000000.1 execve("/bin/dig", ["dig"], []) = -1 ENOENT (No such file or directory) <0.1>`}},
		{"never seen to return", "", -1, []string{begun}},
		{"detached in its execve", "", -1, []string{`812 1700000000.1 execve("/bin/dig", ["dig", ") = 0"], [] <detached ...>`}},
		{"not known after another", "sh /bin/sh sh", -1, []string{`812 1700000000.1 execve("/bin/sh", ["sh"], []) = 0`, begun}},
		{"of a path that cannot be read", "", -1, []string{
			begun, failed, `812 1700000000.1 execve(0x7ffd, ["dig"], [] <unfinished ...>`, "812 1700000000.1 <... execve resumed>) = 0 <0.0001>",
		}},
		{"another process", "", -1, []string{
			`813 1700000000.1 execve("/bin/dig", ["dig"], []) = 0`, "813 1700000000.2 +++ exited with 3 +++",
		}},
	} {
		f := fate{pid: 812}
		for _, line := range tt.lines {
			f.line([]byte(line), []byte(line))
		}
		became, exit := "", -1
		if p := f.program; p != nil {
			became = strings.Join([]string{p.Name, p.Executable, p.CommandLine}, " ")
		}
		if f.exitCode != nil {
			exit = *f.exitCode
		}
		if became != tt.became || exit != tt.exit {
			t.Errorf("%s: became %q, exit status %d; want %q, %d", tt.name, became, exit, tt.became, tt.exit)
		}
	}
}

// Whether an execve succeeded is known even if its line is long (strace -v shows the whole
// environment) and is split anywhere between two reads.
func TestFateOfALongLine(t *testing.T) {
	t.Parallel()
	for _, size := range []int{10, keepLine - 100, keepLine, 3 * keepLine} {
		begin := `812 1700000000.1 execve("/usr/bin/dig", ["dig", "-x"], ["A=) = -1 ENOENT (x)", "` + strings.Repeat("b", size)
		for result, became := range map[string]bool{
			`", ") = 0"]) = 0 <0.000123>`:                                     true,
			`", ") = 0"]) = -1 ENOENT (No such file or directory) <0.000012>`: false,
			`", ") = 0"]) = ? <unavailable>`:                                  false,
			`", ") = 0"] <unfinished ...>`:                                    false,
		} {
			line := begin + result + "\n"
			for split := len(line) - 100; split < len(line); split++ {
				f := fate{pid: 812}
				w := watchLines(io.Discard, f.line)
				w.Write([]byte(line[:split]))
				w.Write([]byte(line[split:]))
				if (f.program != nil) != became {
					t.Fatalf("%d bytes of environment%s, split %d bytes before the end: became %+v", size, result, len(line)-split, f.program)
				}
				if became && f.program.CommandLine != "dig -x" {
					t.Fatalf("became %+v", f.program)
				}
			}
		}
	}
}
