package strace

import (
	"bytes"
	"fmt"

	"culprit/internal/text"
)

// A trace file begins and ends with comment lines of ours: "# key: value".
const (
	commentMark = "# "
	keyEnd      = ": "
)

// A key says what a comment line is about.
type key uint8

// The keys of the header, then those of the footer.
const (
	keyTrace key = iota
	keyCapture
	keyHit
	keyLinked
	keyPacket
	keyOrigin
	keyProcess
	keyExecutable
	keyCommandLine
	keyDirectory
	keyParent
	keyContainer
	keyStrace

	keyBecame
	keyEnded
	keyDropped
	keyExit

	keyCount
)

// A foreign value was chosen by others and may hold a secret. A value is foreign unless its key
// says that it is ours.
const (
	foreign = false
	ours    = true
)

// keys describes all keys. A key that is missing here has no name, which a test finds, and a
// foreign value.
var keys = [keyCount]struct {
	name string
	ours bool
}{
	keyTrace:       {"culprit trace", ours},
	keyCapture:     {"capture", ours},
	keyHit:         {"hit", ours},
	keyLinked:      {"linked as", ours},
	keyPacket:      {"packet", ours},
	keyOrigin:      {"origin", foreign},
	keyProcess:     {"process", ours},
	keyExecutable:  {"executable", foreign},
	keyCommandLine: {"command line", foreign},
	keyDirectory:   {"directory", foreign},
	keyParent:      {"parent", foreign},
	keyContainer:   {"container", ours},
	keyStrace:      {"strace", ours},

	keyBecame:  {"became", foreign},
	keyEnded:   {"ended", ours},
	keyDropped: {"bytes dropped", ours},
	keyExit:    {"exit status", ours},
}

// comments are the comment lines being written.
type comments []byte

// add adds a line. Whatever the value is, it stays one line and is safe to print.
func (c *comments) add(k key, format string, args ...any) {
	*c = fmt.Appendf(*c, "%s%s%s%s\n", commentMark, keys[k].name, keyEnd, text.Escape(fmt.Sprintf(format, args...)))
}

// IsComment reports whether a line of a trace file is a comment of ours. Lines of strace never
// are.
func IsComment(line []byte) bool { return bytes.HasPrefix(line, []byte(commentMark)) }

// Spare returns how many bytes at the beginning of a line of a trace file must never be masked:
// TID and time, without which it cannot be read, the key of a comment, and its value if that is
// ours.
func Spare(line []byte) int {
	comment, ok := bytes.CutPrefix(line, []byte(commentMark))
	if !ok {
		_, _, text := ParseLine(line)
		if text == nil {
			return 0
		}
		return len(line) - len(text)
	}
	name, _, ok := bytes.Cut(comment, []byte(keyEnd))
	if !ok {
		return len(commentMark)
	}
	for _, k := range keys {
		if k.ours && string(name) == k.name {
			return len(line)
		}
	}
	return len(commentMark) + len(name) + len(keyEnd)
}
