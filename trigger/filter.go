package trigger

import (
	"encoding/binary"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/net/bpf"
)

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
