package proof

import (
	"bytes"
	"time"

	"culprit/internal/strace"
)

// Bounds of a Scanner's memory. The longest datagram makes a line of 256 KiB, as strace may write
// four characters for each byte.
const (
	maxLine       = 512 << 10 // bytes that are read of a line
	maxPending    = 1024      // calls that have begun and not ended
	maxPendingLen = 4 << 20   // bytes of their lines
	judgeAt       = 256       // bytes after which it is clear whether a line matters
)

// A Scanner finds the sends in a trace. It is an [io.Writer] for the whole trace file, including
// comment lines, in pieces of any size.
type Scanner struct {
	send func(Send)
	lost ScannerLost

	lines  *strace.Lines
	judged bool // whether the line that has begun matters

	pending    map[int]pending // by TID
	pendingLen int
	scratch    []byte
}

// pending is a call whose line ends with "<unfinished ...>".
type pending struct {
	name         string
	text         []byte // its arguments so far
	time         time.Time
	line, offset int64
}

// ScannerLost counts what a Scanner could not read.
type ScannerLost struct {
	LongLines  int64 // sends with a line longer than 512 KiB, the rest of which was not read
	Unfinished int64 // sends that were forgotten before they returned, as there were too many
}

// NewScanner returns a Scanner that calls send, from Write and Close, for every send.
func NewScanner(send func(Send)) *Scanner {
	return &Scanner{send: send, lines: strace.NewLines(maxLine), pending: make(map[int]pending)}
}

// Lost returns what could not be read until now.
func (s *Scanner) Lost() ScannerLost { return s.lost }

// Write reads the next piece of the trace. It never fails.
func (s *Scanner) Write(p []byte) (int, error) {
	for rest := p; ; {
		line, more, ok := s.lines.Next(rest)
		if !ok {
			s.judge()
			return len(p), nil
		}
		s.read(line)
		rest = more
	}
}

// Close reads a last line that has no newline, and reports calls that never returned: a process
// that was killed in one may have sent. The Scanner cannot be used after it.
func (s *Scanner) Close() error {
	if line, ok := s.lines.Last(); ok {
		s.read(line)
	}
	for tid := range s.pending {
		s.ended(tid)
	}
	return nil
}

// judge skips the rest of a line that does not matter.
func (s *Scanner) judge() {
	if begun := s.lines.Begun(); !s.judged && len(begun) >= judgeAt {
		s.judged = true
		if !s.matters(begun) {
			s.lines.Skip()
		}
	}
}

// read reads a line, at most its first maxLine bytes.
func (s *Scanner) read(line []byte) {
	s.judged = false
	tid, at, text := strace.ParseLine(line[:min(len(line), maxLine)])
	if text == nil {
		return
	}
	switch text.Kind() {
	case strace.KindCall:
		name, args := sender(text)
		if name == "" {
			return
		}
		cut := s.cut()
		p := pending{name: name, text: args, time: at.Time(), line: s.lines.Number(), offset: s.lines.Offset()}
		if begin, ok := strace.CutUnfinished(args); ok && !cut {
			p.text = bytes.Clone(begin)
			s.begun(tid, p)
			return
		}
		if cut {
			s.lost.LongLines++
		}
		s.emit(tid, p)
	case strace.KindResumed:
		s.resumed(tid, text)
	case strace.KindEnd:
		s.ended(tid)
	}
}

// cut reports whether the current line is longer than what is read of it.
func (s *Scanner) cut() bool { return s.lines.Length() > maxLine }

// begun remembers an unfinished call until it returns.
func (s *Scanner) begun(tid int, p pending) {
	s.forget(tid)
	for t := range s.pending {
		if len(s.pending) < maxPending && s.pendingLen+len(p.text) <= maxPendingLen {
			break
		}
		s.forget(t) // any: their age does not tell which of them will return
		s.lost.Unfinished++
	}
	s.pending[tid] = p
	s.pendingLen += len(p.text)
}

func (s *Scanner) forget(tid int) (pending, bool) {
	p, ok := s.pending[tid]
	if ok {
		delete(s.pending, tid)
		s.pendingLen -= len(p.text)
	}
	return p, ok
}

// resumed joins "<... sendmmsg resumed>[{msg_hdr=…" with the line where it began.
func (s *Scanner) resumed(tid int, text strace.Text) {
	p, ok := s.pending[tid]
	if !ok {
		return
	}
	end, ok := text.CutResumed(p.name)
	if !ok {
		return
	}
	s.forget(tid)
	if s.cut() {
		s.lost.LongLines++
	}
	if bytes.IndexByte(p.text, '"') < 0 { // the bytes are shown here, not there
		p.line, p.offset = s.lines.Number(), s.lines.Offset()
	}
	p.text = append(p.text, end...)
	s.emit(tid, p)
}

// ended reports a call that will never return.
func (s *Scanner) ended(tid int) {
	if p, ok := s.forget(tid); ok {
		s.emit(tid, p)
	}
}

func (s *Scanner) emit(tid int, p pending) {
	call := parser{text: p.text, scratch: s.scratch}
	send, ok := call.parse(p.name)
	s.scratch = call.scratch[:0]
	if !ok {
		return
	}
	send.TID, send.Time, send.Syscall, send.Line, send.Offset = tid, p.time, p.name, p.line, p.offset
	s.send(send)
}

// matters reports whether a line with this beginning may be part of a send.
func (s *Scanner) matters(line []byte) bool {
	tid, _, text := strace.ParseLine(line)
	if text == nil {
		return false
	}
	_, resumes := s.pending[tid]
	name, _ := sender(text)
	return name != "" || resumes
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
