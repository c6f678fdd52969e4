package strace

import (
	"bytes"
	"strconv"
	"time"
)

// Special results of a call, besides numbers from 0.
const (
	Failed    = -1 // = -1 ENOENT (…)
	Unknown   = -2 // the line does not show it: it is unfinished, cut, or "= ?"
	Restarted = -3 // = ? ERESTARTSYS (…): a signal came first, and the kernel may restart the call
)

const (
	unfinished    = "<unfinished ...>"
	resumedBegin  = "<... "
	resumedEnd    = " resumed>"
	maxName       = 32 // bytes; the kernel's longest name of a system call has 28
	beforeResult  = "= "
	restartedName = "? E"
)

// CutUnfinished removes the mark that says that the end of the call is on another line. !ok
// means that there is no such mark.
func CutUnfinished(text []byte) (begin []byte, ok bool) {
	return bytes.CutSuffix(text, []byte(unfinished))
}

// CutResumed returns what follows "<... NAME resumed>". !ok means that the line does not end
// such a call.
func (t Text) CutResumed(name string) (end []byte, ok bool) {
	rest, ok := bytes.CutPrefix(t, []byte(resumedBegin))
	if !ok || len(rest) < len(name) || string(rest[:len(name)]) != name {
		return nil, false
	}
	return bytes.CutPrefix(rest[len(name):], []byte(resumedEnd))
}

// Name returns the name of the system call that the line begins or ends. It is empty for
// signals and ends of threads.
func (t Text) Name() []byte {
	switch t.Kind() {
	case KindCall:
		return t[:max(0, bytes.IndexByte(t[:min(len(t), maxName)], '('))]
	case KindResumed:
		after := bytes.TrimPrefix(t, []byte(resumedBegin))
		name, _, _ := bytes.Cut(after[:min(len(after), maxName)], []byte(resumedEnd))
		return name
	}
	return nil
}

// Returned returns the result of the call: a number from 0, or one of the constants. It
// searches from the end of the line, so the program can forge a result on a line that shows
// none.
func (t Text) Returned() int64 {
	i := bytes.LastIndex(t, []byte(" "+beforeResult))
	if i < 0 || !bytes.HasSuffix(bytes.TrimRight(t[:i], " "), []byte(")")) {
		return Unknown
	}
	return Result(t[i:])
}

// Took returns how long a call took, in seconds between angle brackets at the end of its line
// (strace -T). !ok means that the line does not say it.
func Took(end []byte) (took time.Duration, ok bool) {
	end = bytes.TrimRight(end, " ")
	i := bytes.LastIndexByte(end, '<')
	if i < 0 || i+1 == len(end) || end[len(end)-1] != '>' || !isDigit(end[i+1]) {
		return 0, false
	}
	return Stamp(end[i+1 : len(end)-1]).Time().Sub(time.Unix(0, 0)), true
}

// Result reads what follows the bracket after a call's arguments, and returns the same as
// Returned. Examples are " = 33 <0.000020>", " = -1 EPERM (…)" and " = ?".
func Result(text []byte) int64 {
	value, ok := bytes.CutPrefix(bytes.TrimLeft(text, " "), []byte(beforeResult))
	if !ok {
		return Unknown
	}
	if bytes.HasPrefix(value, []byte(restartedName)) {
		return Restarted
	}
	if bytes.HasPrefix(value, []byte("-")) {
		return Failed
	}
	end := 0
	for end < len(value) && isDigit(value[end]) {
		end++
	}
	n, err := strconv.ParseInt(string(value[:end]), 10, 64)
	if err != nil {
		return Unknown
	}
	return n
}
