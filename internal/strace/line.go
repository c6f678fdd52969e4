package strace

import (
	"bytes"
	"strconv"
	"time"
)

// A Line is a line of strace's output, taken apart: "812   1700000000.123456 close(3) = 0".
type Line struct {
	TID   int
	Stamp []byte // when it was begun: seconds and a fraction, see Time
	Text  []byte // what happened; never empty
}

// A Kind is what a line tells of.
type Kind int

// What a line tells of.
const (
	KindCall    Kind = iota // a system call, from its begin: "close(3) = 0", "close(3 <unfinished ...>"
	KindResumed             // the end of a system call: "<... close resumed>) = 0"
	KindSignal              // "--- SIGTERM {…} ---"
	KindEnd                 // the end of the thread: "+++ exited with 0 +++"
)

// ParseLine takes a line apart. It refuses what is not about a thread: comments, call
// stacks, lines that were cut too early.
func ParseLine(line []byte) (l Line, ok bool) {
	i := 0
	for ; i < len(line) && isDigit(line[i]) && i < 10; i++ {
		l.TID = l.TID*10 + int(line[i]-'0')
	}
	if i == 0 {
		return Line{}, false
	}
	begin := i
	for ; i < len(line) && line[i] == ' '; i++ {
	}
	if i == begin {
		return Line{}, false
	}
	begin = i
	for ; i < len(line) && (isDigit(line[i]) || line[i] == '.'); i++ {
	}
	if i == begin || i+1 >= len(line) || line[i] != ' ' {
		return Line{}, false
	}
	l.Stamp, l.Text = line[begin:i], line[i+1:]
	return l, true
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// Kind returns what the line tells of.
func (l Line) Kind() Kind {
	switch l.Text[0] {
	case '<':
		return KindResumed
	case '-':
		return KindSignal
	case '+':
		return KindEnd
	}
	return KindCall
}

// Time returns the moment of the line, of whose fraction nine digits count.
func (l Line) Time() time.Time {
	seconds, fraction, _ := bytes.Cut(l.Stamp, []byte("."))
	s, _ := strconv.ParseInt(string(seconds[:min(len(seconds), 12)]), 10, 64)
	ns := int64(0)
	for i := range 9 {
		ns *= 10
		if i < len(fraction) && isDigit(fraction[i]) {
			ns += int64(fraction[i] - '0')
		}
	}
	return time.Unix(s, ns)
}
