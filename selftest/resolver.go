package selftest

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// A resolver answers every DNS query with "there is no such name", over UDP and TCP.
type resolver struct {
	udp  []*net.UDPConn
	tcp  []*net.TCPListener
	work sync.WaitGroup
}

// listen makes a resolver that listens on port 53 of the addresses, in the namespace of the
// calling thread. The caller closes it.
func listen(addrs ...netip.Addr) (*resolver, error) {
	r := new(resolver)
	for _, a := range addrs {
		at := netip.AddrPortFrom(a, 53)
		udp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
		if err != nil {
			r.close()
			return nil, fmt.Errorf("answer DNS queries: %w", err)
		}
		r.udp = append(r.udp, udp)
		tcp, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
		if err != nil {
			r.close()
			return nil, fmt.Errorf("answer DNS queries: %w", err)
		}
		r.tcp = append(r.tcp, tcp)
		r.work.Go(func() { serveUDP(udp) })
		r.work.Go(func() { r.serveTCP(tcp) })
	}
	return r, nil
}

func (r *resolver) close() {
	for _, c := range r.udp {
		c.Close()
	}
	for _, l := range r.tcp {
		l.Close()
	}
	r.work.Wait()
}

func serveUDP(conn *net.UDPConn) {
	buf := make([]byte, 512)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			return // closed
		}
		if deny(buf[:n]) {
			_, _ = conn.WriteToUDPAddrPort(buf[:n], from) // a sender without an answer complains
		}
	}
}

func (r *resolver) serveTCP(l *net.TCPListener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return // closed
		}
		r.work.Go(func() {
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(answerLimit))
			var size [2]byte
			if _, err := io.ReadFull(conn, size[:]); err != nil {
				return
			}
			msg := make([]byte, binary.BigEndian.Uint16(size[:]))
			if _, err := io.ReadFull(conn, msg); err == nil && deny(msg) {
				_, _ = conn.Write(append(size[:], msg...))
			}
		})
	}
}

// deny turns a query into its own answer: there is no such name (RFC 1035, 4.1.1).
func deny(msg []byte) bool {
	if len(msg) < 12 || msg[2]&0x80 != 0 {
		return false
	}
	msg[2] |= 0x80 // a response
	msg[3] = 0x83  // recursion available, NXDOMAIN
	return true
}
