// Package sockdiag asks the kernel which socket sent a packet, by the exact lookup of
// sock_diag(7): one question, one answer, without reading all sockets of the machine.
package sockdiag

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// A Protocol is a transport protocol, by its number in the IP header.
type Protocol uint8

// The protocols that sockets can be looked up by.
const (
	TCP Protocol = unix.IPPROTO_TCP
	UDP Protocol = unix.IPPROTO_UDP
)

func (p Protocol) String() string {
	switch p {
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	}
	return fmt.Sprintf("protocol %d", uint8(p))
}

// A Socket is what the kernel reports about a socket (struct inet_diag_msg).
type Socket struct {
	// Inode is the number in the links of /proc/PID/fd, "socket:[Inode]". It is never 0 and is
	// unique among the live sockets of the machine.
	Inode uint32
	// UID owns the socket: it is the file system UID of the process that created it, not of the
	// one that sends on it.
	UID uint32
	// Local and Remote are IPv4 if an IPv6 socket uses IPv4. An unconnected UDP socket has port
	// 0 and an unspecified address as Remote; Local is unspecified too if it is bound to a port
	// only.
	Local, Remote netip.AddrPort
}

// ErrNotFound says that no socket sends from the one address to the other, or that its last
// owner has closed the one that did.
var ErrNotFound = errors.New("no such socket")

// The kernel answers within sendmsg(2), so the reply is there before we wait for it. This is
// how long we wait should that ever change.
const timeout = 100 * time.Millisecond

// A Conn asks about the sockets of one network namespace. It is not safe for concurrent use.
type Conn struct {
	nl *netlink.Conn
}

// Open opens a Conn in the network namespace of the calling thread. It needs no
// privileges.
func Open() (*Conn, error) {
	// A part of a list takes 8 KiB at most (NLMSG_GOODSIZE). With a buffer of its own the library
	// need not ask for the size of each beforehand.
	nl, err := netlink.Dial(unix.NETLINK_SOCK_DIAG, &netlink.Config{MessageBufferSize: 8192})
	if err != nil {
		return nil, fmt.Errorf("open sock_diag socket: %w", err)
	}
	return &Conn{nl}, nil
}

// Close closes the Conn.
func (c *Conn) Close() error {
	return c.nl.Close()
}

// LookupOn returns the socket that sends packets of the given protocol from local to remote
// through the interface with index iface. It also finds sockets that are bound to no interface. With 0 it does not find those that
// are bound to one (by SO_BINDTODEVICE, or by connecting to a link-local address).
// If there is no such socket it returns an [ErrNotFound]. No lookup takes longer than 100 ms.
//
// For TCP the answer is exact: a connection is never taken for its listener. For UDP the kernel
// looks for the socket that would receive an answer from remote, preferring one that is
// connected to remote. That is right except in three cases:
//   - an unconnected socket is found by its port alone, even if another socket sent the packet
//     before it was closed; its Remote has port 0;
//   - unconnected sockets that share address and port (SO_REUSEPORT) cannot be told apart: the
//     kernel picks one of them by a hash of the addresses;
//   - a socket that is connected to one peer and sends to another (sendto) is not found.
func (c *Conn) LookupOn(iface uint32, proto Protocol, local, remote netip.AddrPort) (Socket, error) {
	s, err := c.lookup(request{proto, plain(local), plain(remote), iface})
	if err != nil {
		return Socket{}, fmt.Errorf("look up %s socket %s->%s: %w", proto, local, remote, err)
	}
	return s, nil
}

func (c *Conn) lookup(r request) (Socket, error) {
	if !r.valid() {
		return Socket{}, errors.New("addresses of two families or none, or not a protocol to look up")
	}
	data, err := c.ask(r.encode())
	if errors.Is(err, unix.ENOENT) {
		return Socket{}, ErrNotFound
	}
	if err != nil {
		return Socket{}, err
	}
	s, err := decode(data)
	if err != nil {
		return Socket{}, err
	}
	// Closed TCP connections linger without an owner: inode 0 and UID 0.
	if s.Inode == 0 || !r.matches(s) {
		return Socket{}, ErrNotFound
	}
	return s, nil
}

// Others returns the other sockets that may have sent a packet like the one that s was
// found by: those with the same local port, IPv4 and IPv6, that are bound to the address
// or to all, and are connected to remote or to nobody. SO_REUSEADDR and SO_REUSEPORT allow
// that. It walks through the kernel's table of UDP sockets; no walk takes longer than a
// second. For TCP there are none.
func (c *Conn) Others(s Socket, proto Protocol, local, remote netip.AddrPort) (others []Socket, err error) {
	if proto != UDP {
		return nil, nil
	}
	if err := c.nl.SetDeadline(time.Now().Add(10 * timeout)); err != nil {
		return nil, err
	}
	want := request{proto: proto, local: plain(local), remote: plain(remote)}
	for _, family := range [...]uint8{unix.AF_INET, unix.AF_INET6} {
		replies, err := c.nl.Execute(netlink.Message{
			Header: netlink.Header{Type: sockDiagByFamily, Flags: netlink.Request | netlink.Dump},
			Data:   onPort(family, proto, local.Port()),
		})
		if err != nil {
			return nil, fmt.Errorf("list %s sockets on port %d: %w", proto, local.Port(), err)
		}
		for _, m := range replies {
			o, err := decode(m.Data)
			if err != nil {
				return nil, err
			}
			if o.Inode != s.Inode && want.matches(o) {
				others = append(others, o)
			}
		}
	}
	return others, nil
}

// ask sends a request and returns the payload of its reply. A reply to an
// earlier request, one that came after the timeout, is passed over.
func (c *Conn) ask(data []byte) ([]byte, error) {
	if err := c.nl.SetDeadline(time.Now().Add(timeout)); err != nil {
		return nil, err
	}
	req, err := c.nl.Send(netlink.Message{
		Header: netlink.Header{Type: sockDiagByFamily, Flags: netlink.Request},
		Data:   data,
	})
	if err != nil {
		return nil, err
	}
	for {
		replies, err := c.nl.Receive()
		if err != nil {
			var op *netlink.OpError
			if errors.As(err, &op) && op.Sequence != 0 && op.Sequence != req.Header.Sequence {
				continue
			}
			return nil, err
		}
		for _, m := range replies {
			if m.Header.Sequence == req.Header.Sequence && m.Header.Type == sockDiagByFamily {
				return m.Data, nil
			}
		}
	}
}

// Probe returns nil if lookups for UDP and TCP work in the network namespace of the calling
// thread, otherwise an error that says what the kernel lacks.
func Probe() error {
	c, err := Open()
	if err != nil {
		return fmt.Errorf("%w (the kernel needs CONFIG_INET_DIAG)", err)
	}
	defer c.Close()
	return errors.Join(
		c.probe(UDP, "CONFIG_INET_UDP_DIAG or the module udp_diag"),
		c.probe(TCP, "CONFIG_INET_DIAG or the module tcp_diag"),
	)
}

// probe asks for all sockets that are in no state, which gives an empty list. An exact lookup
// would not tell a missing module from a missing socket: both fail with ENOENT.
func (c *Conn) probe(proto Protocol, needs string) error {
	if err := c.nl.SetDeadline(time.Now().Add(10 * timeout)); err != nil {
		return err
	}
	unspecified := netip.AddrPortFrom(netip.IPv4Unspecified(), 0)
	r := request{proto: proto, local: unspecified, remote: unspecified}
	_, err := c.nl.Execute(netlink.Message{
		Header: netlink.Header{Type: sockDiagByFamily, Flags: netlink.Request | netlink.Dump},
		Data:   r.encode(),
	})
	switch {
	case errors.Is(err, unix.ENOENT):
		return fmt.Errorf("look up %s sockets: the kernel lacks %s: %w", proto, needs, err)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("look up %s sockets: no answer from the kernel: %w", proto, err)
	case err != nil:
		return fmt.Errorf("look up %s sockets: %w", proto, err)
	}
	return nil
}
