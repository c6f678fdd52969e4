package strace

import (
	"bytes"
	"path"
	"regexp"
)

// An Exec is the program that a process executed.
type Exec struct {
	Executable string // the path as given to execve
	Args       []string
}

// Name is the base name of the executable.
func (e Exec) Name() string { return path.Base(e.Executable) }

// Execve returns the program of an execve, unless the line shows that it failed: the execve
// succeeded, or is unfinished (see ExecveFailed). From a line that was cut it returns as many
// arguments as the line holds.
func (t Text) Execve() (e Exec, ok bool) {
	text, ok := bytes.CutPrefix(t, []byte("execve("))
	if !ok || failed.Match(t) {
		return Exec{}, false
	}
	executable, text, ok := CutQuoted(text)
	if !ok {
		return Exec{}, false
	}
	if text, ok = bytes.CutPrefix(bytes.TrimPrefix(text, ellipsis), []byte(", [")); !ok {
		return Exec{}, false
	}
	e.Executable = string(Unquote(nil, executable))
	for {
		arg, rest, ok := CutQuoted(text)
		if !ok {
			return e, true
		}
		e.Args = append(e.Args, string(Unquote(nil, arg)))
		text, _ = bytes.CutPrefix(bytes.TrimPrefix(rest, ellipsis), []byte(", "))
	}
}

// ExecveFailed reports whether the line says that an execve failed that began on another line.
func (t Text) ExecveFailed() bool {
	_, ok := t.CutResumed("execve")
	return ok && failed.Match(t)
}

// ellipsis follows a string that strace cut.
var ellipsis = []byte("...")

// failed matches the end of a failed call. It allows no quote, so a string cannot look like it,
// unless the line was cut inside of one.
var failed = regexp.MustCompile(` = -1 [A-Z0-9]+ \([^()]*\)(?: <[\d.]+>)?$`)
