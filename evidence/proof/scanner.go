package proof

import (
	"bytes"
	"strconv"
	"time"
)

// Bounds of a Scanner's memory. The longest datagram fills a line of 256 KiB, when
// strace writes each byte with four.
const (
	maxLine       = 512 << 10 // bytes of a line; what is behind them is not read
	maxPending    = 1024      // calls that have begun and not ended
	maxPendingLen = 4 << 20   // bytes of their lines
	judgeAt       = 128       // bytes after which it is clear whether a line matters
)

// A Scanner finds the sends in a trace. It is an [io.Writer] that is given the whole
// trace file, its comment lines included, in pieces of any size.
type Scanner struct {
	send func(Send)
	lost ScannerLost

	line   int64  // the number of the current line
	offset int64  // where it begins
	length int64  // how much of it was seen in earlier pieces
	part   []byte // the part of it that was kept
	judged bool
	skip   bool // it does not matter, nothing of it is kept

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
	LongLines  int64 // sends of whose line only the first 512 KiB were read
	Unfinished int64 // sends that were forgotten before they returned, as too many were under way
}

// NewScanner returns a Scanner that calls send, from Write, for every send it finds.
func NewScanner(send func(Send)) *Scanner {
	return &Scanner{send: send, line: 1, pending: make(map[int]pending)}
}

// Lost returns what could not be read until now.
func (s *Scanner) Lost() ScannerLost { return s.lost }

// Write reads the next piece of the trace. It never fails.
func (s *Scanner) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		i := bytes.IndexByte(rest, '\n')
		if i < 0 {
			s.keep(rest)
			break
		}
		if s.length == 0 {
			s.read(rest[:min(i, maxLine)], i > maxLine)
			s.length = int64(i)
		} else {
			s.keep(rest[:i])
			s.endLine()
		}
		s.line++
		s.offset += s.length + 1
		s.length = 0
		rest = rest[i+1:]
	}
	return len(p), nil
}

// Close reads a last line that has no end, and takes calls that never returned for
// sends: whoever is killed in the middle of one may have sent. The Scanner cannot
// be used any more.
func (s *Scanner) Close() error {
	if s.length > 0 {
		s.endLine()
	}
	for tid := range s.pending {
		s.ended(tid)
	}
	return nil
}

// keep adds to the current line, unless that does not matter.
func (s *Scanner) keep(b []byte) {
	s.length += int64(len(b))
	if s.skip {
		return
	}
	s.part = append(s.part, b[:min(len(b), maxLine-len(s.part))]...)
	if !s.judged && len(s.part) >= judgeAt {
		s.judged = true
		if !s.matters(s.part) {
			s.skip, s.part = true, s.part[:0]
		}
	}
}

func (s *Scanner) endLine() {
	if !s.skip {
		s.read(s.part, s.length > maxLine)
	}
	s.part, s.judged, s.skip = s.part[:0], false, false
	if cap(s.part) > 64<<10 {
		s.part = nil
	}
}

// read reads a whole line, or the first maxLine bytes of it.
func (s *Scanner) read(line []byte, cut bool) {
	tid, stamp, rest := head(line)
	if len(rest) == 0 {
		return
	}
	switch rest[0] {
	case 's', 'w':
		name, args := sender(rest)
		if name == "" {
			return
		}
		p := pending{name: name, text: args, time: parseTime(stamp), line: s.line, offset: s.offset}
		if text, ok := bytes.CutSuffix(args, unfinished); ok && !cut {
			p.text = bytes.Clone(text)
			s.begun(tid, p)
			return
		}
		if cut {
			s.lost.LongLines++
		}
		s.emit(tid, p)
	case '<':
		s.resumed(tid, rest, cut)
	case '+': // +++ exited with 0 +++
		s.ended(tid)
	}
}

var unfinished = []byte("<unfinished ...>")

// begun remembers a call until it returns.
func (s *Scanner) begun(tid int, p pending) {
	s.forget(tid)
	for t := range s.pending {
		if len(s.pending) < maxPending && s.pendingLen+len(p.text) <= maxPendingLen {
			break
		}
		s.forget(t) // any: which is oldest says nothing about which returns
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
func (s *Scanner) resumed(tid int, rest []byte, cut bool) {
	if p, ok := s.pending[tid]; !ok || !bytes.HasPrefix(rest, []byte("<... "+p.name+" resumed>")) {
		return
	}
	p, _ := s.forget(tid)
	if cut {
		s.lost.LongLines++
	}
	if bytes.IndexByte(p.text, '"') < 0 { // the bytes are shown here, not there
		p.line, p.offset = s.line, s.offset
	}
	p.text = append(p.text, rest[len("<... ")+len(p.name)+len(" resumed>"):]...)
	s.emit(tid, p)
}

// ended takes a call that will never return for a send.
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

// matters reports whether a line that begins so may be a part of a send.
func (s *Scanner) matters(line []byte) bool {
	tid, _, rest := head(line)
	if len(rest) == 0 {
		return false
	}
	_, resumes := s.pending[tid]
	name, _ := sender(rest)
	return name != "" || resumes
}

// head takes the begin of a line apart: "812   1700000000.123456 rest". Without a
// rest it is another kind of line.
func head(line []byte) (tid int, stamp, rest []byte) {
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

// parseTime reads seconds and a fraction of up to nine digits.
func parseTime(stamp []byte) time.Time {
	seconds, fraction, _ := bytes.Cut(stamp, []byte("."))
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

// sender returns the name of the call if it is one that may send to a network, and
// its arguments: "sendto(3<UDP:[…", "write(4<TCP:[…".
func sender(rest []byte) (name string, args []byte) {
	if rest[0] != 's' && rest[0] != 'w' {
		return "", nil
	}
	i := bytes.IndexByte(rest[:min(len(rest), len("sendmmsg("))], '(')
	if i < 0 {
		return "", nil
	}
	for _, sends := range [...]string{"send", "sendto", "sendmsg", "sendmmsg", "write", "writev"} {
		if string(rest[:i]) == sends {
			name = sends
		}
	}
	if name == "" {
		return "", nil
	}
	args = rest[i+1:]
	fd := 0
	for fd < len(args) && isDigit(args[fd]) {
		fd++
	}
	if fd == 0 || fd == len(args) {
		return "", nil
	}
	if args[fd] != '<' {
		return name, args // strace could not say what it is
	}
	what := args[fd+1:]
	for _, socket := range [...]string{"UDP:[", "TCP:[", "UDPv6:[", "TCPv6:[", "socket:["} {
		if len(what) >= len(socket) && string(what[:len(socket)]) == socket {
			return name, args
		}
	}
	return "", nil // a file, a pipe, a UNIX socket, …
}
