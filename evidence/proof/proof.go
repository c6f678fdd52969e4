// Package proof finds the line of a trace whose system call sent a hit's packet.
//
// A [Scanner] reads strace's output as it is written and reports every [Send]. A [Matcher]
// compares the bytes that were sent with the packets that were logged. [Excerpt] shows a proven
// line among its neighbours.
//
// Nothing here opens files, starts goroutines or waits. What the traced program chose (bytes,
// names, the number and length of calls) is hostile: memory is bounded, and what does not fit is
// counted.
package proof

import (
	"net/netip"
	"time"
)

// Send is a system call that sent bytes to the network, as one line of a trace shows it (or two, if
// another thread's line came in between).
type Send struct {
	TID     int       // the thread, with which the line begins
	Time    time.Time // when the call began, to the microsecond
	Syscall string    // send, sendto, sendmsg, sendmmsg, write or writev

	// Line is the number, from 1, of the line that holds what was sent, and Offset the position
	// of its first byte.
	Line, Offset int64

	// Socket names the socket as strace -yy does: "UDP:[127.0.0.1:4->127.0.0.1:53]",
	// "UDP:[4711]" (an inode), or the descriptor's number where strace says no more.
	Socket string
	// Transport is "udp", "tcp", or "" where strace does not say it.
	Transport string
	// Local and Remote are the socket's addresses; zero where they are not shown. strace looks
	// them up once a socket, so a later connect does not change them.
	Local, Remote netip.AddrPort

	Messages []Message // never empty; more than one only for sendmmsg
}

// Message is what one datagram, or one write to a TCP connection, holds.
type Message struct {
	Data []byte // the first bytes that were sent, as many as the trace shows
	// Size is how many bytes were sent. It is larger than len(Data) if strace or we cut them,
	// and -1 if the line ends before it says how many.
	Size   int
	Remote netip.AddrPort // if the call itself names one
}

// Cut reports whether Data is not all that was sent.
func (m Message) Cut() bool { return m.Size != len(m.Data) }
