package proof

import "slices"

// socket names one socket of one trace.
type socket struct{ trace, name string }

// descriptor names one descriptor of one thread. Unlike a socket's name, it does not change when the
// socket gets an address.
type descriptor struct {
	trace   string
	tid, fd int
}

// sent is one message of a send, or a change of UDP_CORK, which has none.
type sent struct {
	*Send
	trace   string
	socket  socket
	message Message
	size    int      // of the message; very large if unknown
	corked  bool     // the socket is corked after it, as far as the trace shows
	proves  []string // the rules of the hits that it proved
}

// more reports whether the packet goes on with the next send.
func (s *sent) more() bool { return s.corked || s.message.More }

// add adds a send to those of its socket, and returns these.
func (m *Matcher) add(s *sent) (run []*sent) {
	d := descriptor{s.trace, s.TID, s.FD}
	if first := m.open[d]; first != nil && first.socket != s.socket && first.Local.Port() == 0 {
		m.rename(first.socket, s.socket) // strace shows its address from now on
	}
	run = m.runs[s.socket]
	s.corked = s.Cork == CorkOn || s.Cork == CorkNone && len(run) > 0 && run[len(run)-1].corked
	run = append(run, s)
	m.runs[s.socket] = run
	m.sends = append(m.sends, s)
	m.sendLen += len(s.message.Data) + overhead
	if s.Transport == "udp" && s.more() {
		m.open[d] = s
	} else {
		delete(m.open, d)
	}
	return run
}

// rename moves the pieces of a packet that goes on to the new name of their socket.
func (m *Matcher) rename(from, to socket) {
	run := m.runs[from]
	first := len(run)
	for first > 0 && run[first-1].more() {
		first--
	}
	for _, s := range run[first:] {
		s.socket = to
	}
	m.runs[to] = append(m.runs[to], run[first:]...)
	if m.runs[from] = run[:first:first]; first == 0 {
		delete(m.runs, from)
	}
}

// forget drops the oldest send.
func (m *Matcher) forget() {
	s := m.sends[0]
	m.sends[0] = nil
	m.sends = m.sends[1:]
	m.sendLen -= len(s.message.Data) + overhead
	if d := (descriptor{s.trace, s.TID, s.FD}); m.open[d] == s {
		delete(m.open, d)
	}
	run := m.runs[s.socket]
	switch at := slices.Index(run, s); {
	case len(run) == 1:
		delete(m.runs, s.socket)
	case at == 0:
		run[0] = nil
		m.runs[s.socket] = run[1:]
	default: // its socket was renamed
		m.runs[s.socket] = slices.Delete(run, at, at+1)
	}
}
