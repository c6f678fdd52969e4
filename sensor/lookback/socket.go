package lookback

import (
	"encoding/binary"
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"
)

// descriptor writes a descriptor and what its socket is, as strace -yy does. The addresses are
// those after the call; connect and bind get the number of the inode, which is what strace shows.
func (w *writer) descriptor(fd int32, addresses bool) {
	w.add("%d", fd)
	s, ok := w.socket()
	if !ok {
		return
	}
	kind := "socket"
	switch s.kind {
	case unix.SOCK_DGRAM:
		if s.protocol == unix.IPPROTO_UDP {
			kind = "UDP"
		}
	case unix.SOCK_STREAM:
		if s.protocol == unix.IPPROTO_TCP {
			kind = "TCP"
		}
	case unix.SOCK_RAW:
		kind = "RAW"
	}
	if s.family == unix.AF_INET6 && kind != "socket" {
		kind += "v6"
	}
	what := strconv.FormatUint(s.inode, 10)
	if addresses && kind != "socket" && s.local.Port() != 0 {
		what = s.local.String()
		if s.remote.Port() != 0 {
			what += "->" + s.remote.String()
		}
	}
	w.add("<%s:[%s]>", kind, what)
}

// address writes a struct sockaddr.
func (w *writer) address(p *part, v uint64) {
	if p == nil || p.failed || len(p.bytes) < 2 {
		w.missing(v)
		return
	}
	b := p.bytes
	family := u16(b, 0)
	switch {
	case family == unix.AF_INET && len(b) >= unix.SizeofSockaddrInet4:
		w.add("{sa_family=AF_INET, sin_port=htons(%d), sin_addr=inet_addr(\"%s\")}", port(b), netip.AddrFrom4([4]byte(b[4:8])))
	case family == unix.AF_INET6 && len(b) >= unix.SizeofSockaddrInet6:
		w.add("{sa_family=AF_INET6, sin6_port=htons(%d), sin6_flowinfo=htonl(%d), inet_pton(AF_INET6, \"%s\", &sin6_addr), sin6_scope_id=%d}",
			port(b), binary.BigEndian.Uint32(b[4:]), netip.AddrFrom16([16]byte(b[8:24])), u32(b, 24))
	case family == unix.AF_UNIX:
		w.add("{sa_family=AF_UNIX, sun_path=")
		path := b[2:]
		if len(path) > 0 && path[0] == 0 { // an abstract name
			w.add("@")
			path = path[1:]
		} else if i := indexNUL(path); i >= 0 {
			path = path[:i]
		}
		w.quoted(path, false)
		w.add("}")
	case family == unix.AF_NETLINK && len(b) >= unix.SizeofSockaddrNetlink:
		w.add("{sa_family=AF_NETLINK, nl_pid=%d, nl_groups=%08x}", u32(b, 4), u32(b, 8))
	default:
		w.add("{sa_family=%s, sa_data=", oneOf(families(), uint64(family)))
		w.quoted(b[2:], false)
		w.add("}")
	}
}

func port(b []byte) uint16 { return binary.BigEndian.Uint16(b[2:]) }

func indexNUL(b []byte) int {
	for i, c := range b {
		if c == 0 {
			return i
		}
	}
	return -1
}

// vectors writes an array of struct iovec.
func (w *writer) vectors(count uint64) {
	w.add("[")
	for i := range count {
		if i > 0 {
			w.add(", ")
		}
		p := w.take(partData)
		if p == nil {
			w.take(partMore)
			w.add("...")
			break
		}
		w.add("{iov_base=")
		if p.failed {
			w.add("/* not in memory */")
		} else {
			w.data(p, 1, p.whole)
		}
		w.add(", iov_len=%d}", p.whole)
	}
	w.add("]")
}

// message writes a struct msghdr, and returns how many bytes its vectors have, as far as they are known.
func (w *writer) message() (whole uint64) {
	p := w.take(partHeader)
	if p == nil || p.failed {
		w.missing(w.Args[1])
		return 0
	}
	h := p.bytes
	w.add("{msg_name=")
	if u64(h, 0) == 0 {
		w.add("NULL")
	} else {
		w.address(w.take(partAddress), u64(h, 0))
	}
	w.add(", msg_namelen=%d, msg_iov=", u32(h, 8))
	from := w.used
	w.vectors(u64(h, 24))
	for _, p := range w.parts[from:w.used] {
		whole += p.whole
	}
	w.add(", msg_iovlen=%d, msg_controllen=%d, msg_flags=%s}", u64(h, 24), u64(h, 40), several(messageFlags(), uint64(u32(h, 48)), "0"))
	return whole
}

// messages writes an array of struct mmsghdr.
func (w *writer) messages(count uint64) {
	w.add("[")
	for i := range min(count, maxMessages) {
		if i > 0 {
			w.add(", ")
		}
		w.add("{msg_hdr=")
		whole := w.message()
		if int64(i) < w.Result {
			w.add(", msg_len=%d", whole)
		}
		w.add("}")
	}
	if count > maxMessages {
		w.add(", ...")
	}
	w.add("]")
}
