package capture

import (
	"bytes"
	"fmt"
	"path"
	"regexp"
	"strconv"
	"strings"

	"culprit/internal/config"
	"culprit/internal/event"
	"culprit/internal/proc"
	"culprit/internal/strace"
)

// outputFD is where strace finds the pipe to write to.
const outputFD = "/proc/self/fd/3"

// command is strace with its arguments for one process, as man strace has them:
// follow forks, times with microseconds and durations, names of descriptors and
// sockets, nothing abbreviated. The first is the name that strace's messages
// begin with.
func command(p strace.Program, l config.Level, pid int) []string {
	args := []string{"strace", "-f", "-ttt", "-T", "-yy", "-v", "-s", strconv.Itoa(l.Strings)}
	if l.Syscalls != "" {
		args = append(args, "-e", "trace="+l.Syscalls)
	}
	if l.Stacks && p.Stacks != "" {
		args = append(args, "-k")
	}
	return append(args, "-o", outputFD, "-p", strconv.Itoa(pid))
}

// attached reports whether a line of strace's standard error says that it is on
// the process: "strace: Process 812 attached", "… attached with 3 threads". Behind a
// script that runs the real strace, its name has a path.
func attached(line string, pid int) bool {
	before, rest, ok := strings.Cut(line, fmt.Sprintf("strace: Process %d attached", pid))
	return ok && (before == "" || strings.HasSuffix(before, "/")) && (rest == "" || rest[0] == ' ')
}

// refusal turns what strace said when it could not attach into a reason.
func refusal(stderr string) event.Untraced {
	first, _, _ := strings.Cut(strings.TrimPrefix(stderr, "strace: "), "\n")
	switch {
	case strings.Contains(stderr, "No such process"):
		return event.Untraced{Code: event.UntracedGone}
	case strings.Contains(stderr, "Operation not permitted"):
		return event.Untraced{Code: event.UntracedRefused, Detail: first}
	case first == "":
		return event.Untraced{Code: event.UntracedSilent}
	}
	return event.Untraced{Code: event.UntracedOther, Detail: first}
}

// exitLine is how strace tells the end of a process: "812 1700000000.1 +++ exited
// with 3 +++". What the traced program writes appears inside quotes, with line
// ends escaped, so it cannot forge such a line.
var exitLine = regexp.MustCompile(`^(\d+) +[\d.]+ \+\+\+ (?:exited with (\d+)|killed by (\w+)(?: \(core dumped\))?) \+\+\+$`)

// exitStatus returns how process pid ended, if the line tells that: its exit code
// as shells count it, 128+n for signal n.
func exitStatus(line []byte, pid int) (code int, ok bool) {
	if !bytes.HasSuffix(line, []byte(" +++")) {
		return 0, false
	}
	m := exitLine.FindSubmatch(line)
	if m == nil || string(m[1]) != strconv.Itoa(pid) {
		return 0, false
	}
	if m[3] != nil {
		return 128 + signalNumber(string(m[3])), true
	}
	code, err := strconv.Atoi(string(m[2]))
	return code, err == nil
}

// program is what a process has become by execve.
type program struct{ name, executable, commandLine string }

func (p program) set(doc *event.Process) {
	doc.Name, doc.Executable, doc.CommandLine = p.name, p.executable, p.commandLine
}

// execveLine is how strace shows an execve that did not fail: complete with "= 0", or
// unfinished, as another thread's line comes in between. A string ends at a quote
// that is not escaped, and is followed by "..." if it was cut.
var execveLine = regexp.MustCompile(`^(\d+) +[\d.]+ execve\("((?:[^"\\]|\\.)*)"(?:\.\.\.)?, \[((?:"(?:[^"\\]|\\.)*"(?:\.\.\.)?(?:, )?)*)`)

var quoted = regexp.MustCompile(`"((?:[^"\\]|\\.)*)"`)

// execve returns what process pid becomes, if the line says so. A line that was cut
// shows as many arguments as it holds.
func execve(line []byte, pid int) (*program, bool) {
	if !bytes.Contains(line[:min(len(line), 64)], []byte(" execve(")) || failed.Match(line) {
		return nil, false
	}
	m := execveLine.FindSubmatch(line)
	if m == nil || string(m[1]) != strconv.Itoa(pid) {
		return nil, false
	}
	p := &program{executable: unquote(string(m[2]))}
	p.name = path.Base(p.executable)
	var args []string
	for _, arg := range quoted.FindAllSubmatch(m[3], -1) {
		args = append(args, unquote(string(arg[1])))
	}
	p.commandLine = proc.JoinArgs(args, proc.MaxCommandLine)
	return p, true
}

// execveFailed reports whether the line says that an unfinished execve failed.
func execveFailed(line []byte, pid int) bool {
	rest, ours := bytes.CutPrefix(line, append(strconv.AppendInt(nil, int64(pid), 10), ' '))
	return ours && bytes.Contains(rest[:min(len(rest), 64)], []byte("<... execve resumed>")) && failed.Match(line)
}

// failed is the end of a line whose system call failed.
var failed = regexp.MustCompile(` = -1 [A-Z0-9]+ \([^()]*\)(?: <[\d.]+>)?$`)

// unquote undoes the escapes of strace's strings: those of C, octal without leading
// zeros.
func unquote(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		i++
		if n := strings.IndexByte("abtnvfr", s[i]); n >= 0 {
			b.WriteByte("\a\b\t\n\v\f\r"[n])
			continue
		}
		end := i
		for end < len(s) && end < i+3 && s[end] >= '0' && s[end] <= '7' {
			end++
		}
		if end == i { // a quote or a backslash
			b.WriteByte(s[i])
			continue
		}
		n, _ := strconv.ParseUint(s[i:end], 8, 16)
		b.WriteByte(byte(n))
		i = end - 1
	}
	return b.String()
}
