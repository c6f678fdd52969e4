package strace

import (
	"bytes"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// What the lines of a thread say about its process: which program it runs, and how it ended.

// Execve returns the path and the arguments of the program that an execve is to start. It may
// still fail, see [ExecveSucceeded]. From a line that was cut it returns the arguments as far as
// they are there.
func (t Text) Execve() (executable string, args []string, ok bool) {
	text, ok := bytes.CutPrefix(t, []byte("execve("))
	if !ok {
		return "", nil, false
	}
	quoted, text, ok := CutQuoted(text)
	if !ok {
		return "", nil, false
	}
	if text, ok = bytes.CutPrefix(bytes.TrimPrefix(text, ellipsis), []byte(", [")); !ok {
		return "", nil, false
	}
	executable = string(Unquote(nil, quoted))
	for {
		arg, rest, ok := CutQuoted(text)
		if !ok {
			if begin, quoted := bytes.CutPrefix(text, []byte(`"`)); quoted {
				args = append(args, string(Unquote(nil, withoutPartialEscape(begin))))
			}
			return executable, args, true
		}
		args = append(args, string(Unquote(nil, arg)))
		text, _ = bytes.CutPrefix(bytes.TrimPrefix(rest, ellipsis), []byte(", "))
	}
}

// withoutPartialEscape cuts off the end of a string that may be the beginning of an escape.
func withoutPartialEscape(s []byte) []byte {
	const longest = 4 // \377
	if i := bytes.LastIndexByte(s, '\\'); i >= 0 && i > len(s)-longest {
		return s[:i]
	}
	return s
}

// ellipsis follows a string that strace cut.
var ellipsis = []byte("...")

// ExecveSucceeded reports whether an execve succeeded, given the end of its line.
func ExecveSucceeded(end []byte) bool { return succeeded.Match(end) }

// succeeded matches the end of a call that returned 0. It allows no quote, and a line that ends
// inside a string was cut, so no string can look like it.
var succeeded = regexp.MustCompile(`\) += 0(?: <[\d.]+>)?$`)

// StoppedBy reports whether the line says that the thread stands still because of a signal.
func (t Text) StoppedBy(signal string) bool { return string(t) == "--- stopped by "+signal+" ---" }

// ExitStatus returns how the process ended, if the line shows it: its exit code as shells count
// it, 128+n for signal n.
func (t Text) ExitStatus() (code int, ok bool) {
	what, ok := bytes.CutSuffix(t, []byte(" +++"))
	if !ok {
		return 0, false
	}
	if text, ok := bytes.CutPrefix(what, []byte("+++ exited with ")); ok {
		n, err := strconv.ParseUint(string(text), 10, 31)
		return int(n), err == nil
	}
	if name, ok := bytes.CutPrefix(what, []byte("+++ killed by ")); ok {
		name = bytes.TrimSuffix(name, []byte(" (core dumped)"))
		return 128 + signalNumber(string(name)), !bytes.Contains(name, []byte(" "))
	}
	return 0, false
}

// signalNumber returns the number of a signal: SIGKILL, or SIGRT_5 for a real-time signal,
// which the kernel counts from 32. It returns 0 for others.
func signalNumber(name string) int {
	if n := unix.SignalNum(name); n != 0 {
		return int(n)
	}
	rt, _ := strings.CutPrefix(name, "SIGRT_")
	if n, err := strconv.Atoi(rt); err == nil && n >= 0 && n <= 32 {
		return 32 + n
	}
	return 0
}
