package sockdiag

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// See include/uapi/linux/sock_diag.h and inet_diag.h. Ports and addresses are in network byte
// order, everything else in the byte order of the machine.
const (
	sockDiagByFamily = 20
	requestLen       = 56 // struct inet_diag_req_v2
	replyLen         = 72 // struct inet_diag_msg, without the attributes after it
)

// A request asks for the socket that sends from local to remote.
type request struct {
	proto         Protocol
	local, remote netip.AddrPort
	iface         uint32
}

func (r request) valid() bool {
	l, m := r.local.Addr(), r.remote.Addr()
	return l.IsValid() && m.IsValid() && l.Is4() == m.Is4() && (r.proto == UDP || r.proto == TCP)
}

// encode returns a struct inet_diag_req_v2. Its idiag_states is 0: lookups do not use it, and
// [Conn.probe] wants none.
//
// For IPv4 it asks with AF_INET even if the socket may be an IPv6 one. The kernel keeps both in
// the same tables, finds it, and answers with AF_INET6.
func (r request) encode() []byte {
	src, dst := r.local, r.remote
	if r.proto == UDP {
		// The kernel wants the addresses as in a packet to the socket (udp_dump_one in
		// net/ipv4/udp_diag.c: "src and dst are swapped for historical reasons"). Otherwise it
		// finds the peer, if that is local.
		src, dst = dst, src
	}
	b := make([]byte, requestLen)
	b[0] = unix.AF_INET
	if src.Addr().Is6() {
		b[0] = unix.AF_INET6
	}
	b[1] = byte(r.proto)
	binary.BigEndian.PutUint16(b[8:], src.Port())
	binary.BigEndian.PutUint16(b[10:], dst.Port())
	copy(b[12:28], src.Addr().AsSlice())
	copy(b[28:44], dst.Addr().AsSlice())
	binary.NativeEndian.PutUint32(b[44:], r.iface)
	binary.NativeEndian.PutUint64(b[48:], ^uint64(0)) // INET_DIAG_NOCOOKIE
	return b
}

// onPort returns the request for all sockets of a family whose local port is that one: a
// struct inet_diag_req_v2 that is in any state, and the program that selects them
// (INET_DIAG_REQ_BYTECODE, see inet_diag_bc_run in net/ipv4/inet_diag.c).
func onPort(family uint8, proto Protocol, port uint16) []byte {
	const (
		atLeast = 2 // INET_DIAG_BC_S_GE
		atMost  = 3 // INET_DIAG_BC_S_LE
		opLen   = 4 // struct inet_diag_bc_op; what is compared with is in the no of the next
	)
	b := make([]byte, requestLen)
	b[0], b[1] = family, byte(proto)
	binary.NativeEndian.PutUint32(b[4:], ^uint32(0))
	var program []byte
	op := func(code, yes uint8, no uint16) {
		program = append(program, code, yes)
		program = binary.NativeEndian.AppendUint16(program, no)
	}
	op(atLeast, 2*opLen, 4*opLen+opLen) // a jump behind the end refuses the socket
	op(0, 0, port)
	op(atMost, 2*opLen, 2*opLen+opLen)
	op(0, 0, port)
	const bytecode = 1 // INET_DIAG_REQ_BYTECODE
	b = binary.NativeEndian.AppendUint16(b, uint16(unix.SizeofNlAttr+len(program)))
	b = binary.NativeEndian.AppendUint16(b, bytecode)
	return append(b, program...)
}

// matches reports whether s may have sent what the request is about. For TCP it
// must be the very connection: its listener is what the kernel finds after it
// was closed.
func (r request) matches(s Socket) bool {
	if r.proto == TCP {
		return s.Local == r.local && s.Remote == r.remote
	}
	return s.Local.Port() == r.local.Port() &&
		(s.Local.Addr() == r.local.Addr() || s.Local.Addr().IsUnspecified()) &&
		(s.Remote == r.remote || s.Remote.Port() == 0 && s.Remote.Addr().IsUnspecified())
}

// decode reads a struct inet_diag_msg.
func decode(b []byte) (Socket, error) {
	if len(b) < replyLen {
		return Socket{}, fmt.Errorf("decode reply: %d bytes, need %d", len(b), replyLen)
	}
	var local, remote netip.Addr
	switch family := b[0]; family {
	case unix.AF_INET:
		local = netip.AddrFrom4([4]byte(b[8:]))
		remote = netip.AddrFrom4([4]byte(b[24:]))
	case unix.AF_INET6:
		local = netip.AddrFrom16([16]byte(b[8:])).Unmap()
		remote = netip.AddrFrom16([16]byte(b[24:])).Unmap()
	default:
		return Socket{}, fmt.Errorf("decode reply: address family %d", family)
	}
	return Socket{
		Inode:  binary.NativeEndian.Uint32(b[68:]),
		UID:    binary.NativeEndian.Uint32(b[64:]),
		Local:  netip.AddrPortFrom(local, binary.BigEndian.Uint16(b[4:])),
		Remote: netip.AddrPortFrom(remote, binary.BigEndian.Uint16(b[6:])),
	}, nil
}

// plain returns the address in the one form in which addresses are compared: IPv4 never mapped
// into IPv6, and no zone, which replies do not have.
func plain(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}
