package proof

import (
	"strings"
	"time"
)

// Where the kernel saw a thread send the packet of a hit ([event.Sent]), the packet comes from the
// system call that this thread had in progress then, whether its line shows the bytes or not.

// Both times are the kernel's CLOCK_REALTIME. strace stamps a line before the thread enters the call,
// and measures how long the call takes once it has written its arguments down, which takes a while
// if these are long or it shows the stack (-k).
const (
	early = time.Millisecond       // a call may begin that much after the packet, or return before it: nobody attaches faster
	late  = 100 * time.Millisecond // … and have ended that much before it
)

// when returns when the packet was sent, as well as we know.
func (w *waiting) when() time.Time {
	if s := w.Culprit.Sent; s != nil {
		return s.Timestamp
	}
	return w.Timestamp
}

// inTime reports whether a call may have sent the packet, by its time.
func (w *waiting) inTime(s *Send) bool {
	age := w.when().Sub(s.Time)
	switch {
	case w.Culprit.Sent == nil:
		return age >= -after && age <= before
	case s.Returned:
		return age.Abs() <= before
	}
	return age >= -early && age <= before+max(0, s.Took)
}

// age returns how long before the packet a call began; of one that only says when it returned, how long
// after the packet that was, if it may have been in progress then. The least is the nearest.
func (w *waiting) age(s *Send) time.Duration {
	age := w.when().Sub(s.Time)
	if s.Returned && w.saw(s) {
		return -age
	}
	return age
}

// allowed reports whether a call may have sent the packet, by its thread. UDP is sent by the thread
// that the kernel saw, in the call that it saw. What is written to a TCP connection may be sent later,
// by others that use it.
func (w *waiting) allowed(s *Send) bool {
	sent := w.Culprit.Sent
	return sent == nil || w.transport == "tcp" || s.TID == sent.TID && sameCall(s.Syscall, sent.Syscall)
}

// doubtful reports whether what the kernel saw makes a call only a probable one: it was over by then,
// or is of a thread that we do not know to be of the same process.
func (w *waiting) doubtful(s *Send) bool {
	sent := w.Culprit.Sent
	switch {
	case sent == nil:
		return false
	case w.transport == "tcp":
		return s.TID != sent.TID && (w.Process == nil || s.TID != w.Process.PID)
	}
	return !w.saw(s)
}

// saw reports whether the kernel saw the thread send the packet in this call.
func (w *waiting) saw(s *Send) bool {
	sent := w.Culprit.Sent
	if sent == nil || s.TID != sent.TID || !sameCall(s.Syscall, sent.Syscall) {
		return false
	}
	age := sent.Timestamp.Sub(s.Time)
	if s.Returned {
		return age <= early
	}
	return age >= -early && (s.Took < 0 || age <= s.Took+late)
}

// sameCall compares a call's name as strace writes it with that of the kernel. They differ where the
// kernel has one number for several calls (socketcall), or several for one.
func sameCall(strace, kernel string) bool {
	plain := func(s string) string {
		switch s = strings.TrimSuffix(s, "64"); s {
		case "send":
			return "sendto"
		}
		return s
	}
	return kernel == "" || kernel == "socketcall" || plain(strace) == plain(kernel)
}

// hidden adds a call whose line does not show the bytes.
func (m *Matcher) hidden(trace string, s *Send) (found bool) {
	one := &sent{Send: s, trace: trace}
	m.calls = append(m.calls, one)
	for _, w := range m.hits {
		m.compareHidden(w, one)
		found = found || w.best != nil && m.age(w) >= settle
	}
	if len(m.calls) > maxSends {
		m.calls = m.calls[1:]
		m.lost.Sends++
	}
	return found
}

// compareHidden makes a call whose line does not show the bytes the best one for the hit, if the
// kernel saw it, and it is better.
func (m *Matcher) compareHidden(w *waiting, s *sent) {
	if !w.saw(s.Send) {
		return
	}
	if s.Transport != "" {
		if ok, _ := w.agree(s); !ok {
			return
		}
	}
	m.offer(w, s, &Match{Hit: w.Hit, Trace: s.trace, Send: *s.Send, Kernel: true})
}

// offer makes a match the hit's best one, if it is.
func (m *Matcher) offer(w *waiting, s *sent, match *Match) {
	match.saw = w.saw(s.Send)
	match.age = w.age(s.Send)
	if w.best == nil || match.better(w.best) {
		w.best, w.sent = match, s
	}
}

// byKernel decides what a call is of which the kernel says that it sent the packet, if its line does
// not show all bytes. pieces are the sends that agree with the packet as far as they do show, if any
// do.
func (w *waiting) byKernel(pieces []*sent, run []*sent, last int) ([]*sent, bool) {
	s := run[last]
	switch {
	case !w.saw(s.Send):
		return nil, false
	case len(pieces) > 0 && pieces[len(pieces)-1] == s:
		return pieces, true
	case len(pieces) > 0, s.message.Size < 0, w.transport == "tcp" && s.message.Cut(),
		s.Cork == CorkOff && (last == 0 || !run[last-1].more()): // what it sent is before the trace, or forgotten
		return run[last : last+1], true
	}
	return nil, false
}
