package trigger

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/mdlayher/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"culprit/lists/nfilter"
)

// Filter lets only those messages into the socket's queue that a program of a [nfilter.Filter] lets pass, from now on, in place of
// the program before. Without one (nil) all pass.
func (l *Listener) Filter(p *ebpf.Program) error {
	if p == nil {
		if err := l.nf.Con.RemoveBPF(); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("take the filter off the NFLOG socket: %w", err)
		}
		return nil
	}
	return l.control(func(fd int) error { return nfilter.Attach(fd, p) })
}

// control calls f with the socket.
func (l *Listener) control(f func(fd int) error) error {
	conn, err := l.nf.Con.SyscallConn()
	if err != nil {
		return err
	}
	failed := conn.Control(func(fd uintptr) { err = f(int(fd)) })
	return errors.Join(err, failed)
}

// lost returns how many messages found no room in the socket's queue since the last call: the kernel counts them
// (sk_drops; netlink_overrun in net/netlink/af_netlink.c). The sequence numbers would not tell, as they count those
// that a filter dropped, too.
func (l *Listener) lost() uint64 {
	const drops = 8 // SK_MEMINFO_DROPS in include/uapi/linux/sock_diag.h
	var info [drops + 1]uint32
	size := uint32(unsafe.Sizeof(info))
	err := l.control(func(fd int) error {
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO, uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
		if errno != 0 {
			return errno
		}
		return nil
	})
	if err != nil || size < uint32(unsafe.Sizeof(info)) {
		return 0 // overruns are counted all the same
	}
	n := info[drops] - l.dropped
	l.dropped = info[drops]
	return uint64(n)
}

// blockPackets keeps packets off a netlink connection until unblock is called; answers to
// requests get through. go-nflog binds the group before it configures it, and takes any packet
// in between for the answer. So where packets match all the time, by the rules of a daemon that
// was killed, the next daemon could not start.
func blockPackets(conn *netlink.Conn) (unblock func() error, err error) {
	const typeAt = 4 // in nlmsghdr (man 7 netlink), in the byte order of the machine
	answer := binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, uint16(netlink.Error)))
	filter, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: typeAt, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(answer), SkipFalse: 1},
		bpf.RetConstant{Val: 1 << 16},
		bpf.RetConstant{Val: 0},
	})
	if err != nil {
		return nil, err
	}
	if err := conn.SetBPF(filter); err != nil {
		return nil, fmt.Errorf("keep packets off the socket: %w", err)
	}
	return conn.RemoveBPF, nil
}
