package strace

import (
	"bytes"
	"strconv"
	"time"
)

// ParseLine splits a line of strace's output: "812   1700000000.123456 close(3) = 0". text is
// nil if the line is not about a thread: a comment, a call stack, or a line that was cut too
// early.
func ParseLine(line []byte) (tid int, at Stamp, text Text) {
	i := 0
	for ; i < len(line) && isDigit(line[i]) && i < 10; i++ {
		tid = tid*10 + int(line[i]-'0')
	}
	if i == 0 {
		return 0, nil, nil
	}
	begin := i
	for ; i < len(line) && line[i] == ' '; i++ {
	}
	if i == begin {
		return 0, nil, nil
	}
	begin = i
	for ; i < len(line) && (isDigit(line[i]) || line[i] == '.'); i++ {
	}
	if i == begin || i+1 >= len(line) || line[i] != ' ' {
		return 0, nil, nil
	}
	return tid, line[begin:i], line[i+1:]
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// A Text is the part of a line after the TID and the time: "close(3) = 0". It is never empty.
type Text []byte

// A Kind says what a line shows.
type Kind int

// What a line shows.
const (
	KindCall    Kind = iota // a system call, from its begin: "close(3) = 0", "close(3 <unfinished ...>"
	KindResumed             // the end of a system call: "<... close resumed>) = 0"
	KindSignal              // "--- SIGTERM {…} ---"
	KindEnd                 // the end of the thread: "+++ exited with 0 +++"
)

// Kind returns what the line shows.
func (t Text) Kind() Kind {
	switch t[0] {
	case '<':
		return KindResumed
	case '-':
		return KindSignal
	case '+':
		return KindEnd
	}
	return KindCall
}

// A Stamp is the time that a line begins with: seconds and a fraction.
type Stamp []byte

// Time returns the stamp as a time, to the nanosecond.
func (s Stamp) Time() time.Time {
	seconds, fraction, _ := bytes.Cut(s, []byte("."))
	sec, _ := strconv.ParseInt(string(seconds[:min(len(seconds), 12)]), 10, 64)
	ns := int64(0)
	for i := range 9 {
		ns *= 10
		if i < len(fraction) && isDigit(fraction[i]) {
			ns += int64(fraction[i] - '0')
		}
	}
	return time.Unix(sec, ns)
}
