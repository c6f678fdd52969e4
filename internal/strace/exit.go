package strace

import (
	"bytes"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

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
