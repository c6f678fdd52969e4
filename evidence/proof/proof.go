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

// Send is a system call that sent bytes to the network or had a corked socket send them, as one line
// of a trace shows it (or two, if another thread's line came in between).
type Send struct {
	TID  int       // the thread, with which the line begins
	Time time.Time // when the call began, to the microsecond
	// Returned says that Time is when the call returned: a look-back does not know when it began.
	Returned bool
	Syscall  string // sendto, write, setsockopt, …
	// Took is how long the call took, -1 if it never returned or the line does not say it.
	Took time.Duration

	// Line is the number, from 1, of the line that holds what was sent, and Offset the position
	// of its first byte.
	Line, Offset int64

	FD int // of the socket, -1 if the line shows none
	// Socket names the socket as strace -yy does: "UDP:[127.0.0.1:4->127.0.0.1:53]",
	// "UDP:[4711]" (an inode), or the descriptor's number where strace says no more.
	Socket string
	// Transport is "udp", "tcp", or "" where strace does not say it.
	Transport string
	// Local and Remote are the socket's addresses; zero where they are not shown. strace looks
	// them up once a socket, so a later connect does not change them.
	Local, Remote netip.AddrPort

	// Messages is empty for setsockopt and if Hidden is set; more than one only for sendmmsg.
	Messages []Message
	// Hidden says that the line does not show the bytes, or not in a way that we can compare
	// (sendfile, splice, io_uring, raw sockets).
	Hidden bool
	// Cork is what setsockopt(UDP_CORK) did.
	Cork Cork
}

// Cork is a change of UDP_CORK (man 7 udp).
type Cork int

// What setsockopt(UDP_CORK) does.
const (
	CorkNone Cork = iota // it is another call
	CorkOn               // from now on, what is sent is joined to one packet
	CorkOff              // that packet is sent
)

// Message is what one datagram, or one write to a TCP connection, holds.
type Message struct {
	Data []byte // the first bytes that were sent, as many as the trace shows
	// Size is how many bytes were sent. It is larger than len(Data) if strace or we cut them,
	// and -1 if the line ends before it says how many.
	Size   int
	Remote netip.AddrPort // if the call itself names one
	// More says that the packet goes on with the next send (MSG_MORE).
	More bool
}

// Cut reports whether Data is not all that was sent.
func (m Message) Cut() bool { return m.Size != len(m.Data) }
