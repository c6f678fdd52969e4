package tracer

import (
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
		{"another process", "", -1, []string{
			`813 1700000000.1 execve("/bin/dig", ["dig"], []) = 0`, "813 1700000000.2 +++ exited with 3 +++",
		}},
	} {
		f := fate{pid: 812}
		for _, line := range tt.lines {
			f.line([]byte(line))
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
