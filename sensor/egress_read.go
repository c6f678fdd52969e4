package sensor

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf/ringbuf"
)

// An OtherPacket is a packet of another network namespace.
type OtherPacket struct {
	Send         // who ran when it was sent, see [Send.Certain]
	Netns uint32 // inode of the namespace
	// NetnsOwner has power over the namespace: he made the user namespace that it belongs to. It is as the initial user namespace has him.
	NetnsOwner uint32
	// SocketUID is the user who opened the socket, as the initial user namespace has it.
	SocketUID uint32
	// SocketCgroup is the cgroup of v2 that the socket was made in, whoever runs now.
	SocketCgroup uint64
	// Cgroups are those that SocketCgroup is in, the outermost first, and itself last, if it is not deeper than they reach. They are
	// known also when the cgroup is gone.
	Cgroups []uint64
	// To is where the socket is connected to. Its port is 0 if it is not.
	To netip.AddrPort
	// Named is where the packet was sent, which a firewall's DNAT may have changed since. Its port is 0 if that does not track the packet.
	Named netip.AddrPort
	Data  []byte // from the IP header
}

// From tells who sent the packet, as far as its socket does, and no cgroup around that counts as one.
func (f *OtherPacket) From() From { return fromOf(f.SocketCgroup, f.Netns, f.NetnsOwner) }

// OtherPackets gives the packets of other network namespaces to one goroutine.
type OtherPackets struct {
	egress *egress
	calls  map[uint32]string
	record ringbuf.Record
	losses losses // told by Lost
}

// OtherPackets returns what reads the packets of other network namespaces, or nil if they are not seen.
func (s *Sensor) OtherPackets() *OtherPackets {
	if s.egress == nil {
		return nil
	}
	return &OtherPackets{egress: s.egress, calls: sendingCalls()}
}

// ErrFlushed says that what was there at [OtherPackets.Flush] is read.
var ErrFlushed = ringbuf.ErrFlushed

// Flush makes Next return [ErrFlushed] when it has read all packets that the kernel had seen by now. Another goroutine
// than that of Next may call it.
func (f *OtherPackets) Flush() error { return f.egress.reader.Flush() }

// Next waits for the next packet, until the context ends.
func (f *OtherPackets) Next(ctx context.Context) (OtherPacket, error) {
	defer context.AfterFunc(ctx, func() { _ = f.egress.reader.Flush() })()
	for {
		err := f.egress.reader.ReadInto(&f.record)
		switch {
		case ctx.Err() != nil:
			return OtherPacket{}, ctx.Err()
		case errors.Is(err, ErrFlushed):
			return OtherPacket{}, ErrFlushed
		case err != nil:
			return OtherPacket{}, fmt.Errorf("read the packets of other network namespaces: %w", err)
		}
		packet, err := decodeOther(f.record.RawSample, f.calls)
		if err != nil {
			f.egress.unread.Add(1)
			continue
		}
		f.egress.sensor.counts.whyNot(binary.NativeEndian.Uint32(f.record.RawSample[recWhyNot:]))
		return packet, nil
	}
}

// Lost returns how many packets found no room or could not be read, since the last call, and who sent them. Another
// goroutine than that of Next may call it.
func (f *OtherPackets) Lost() []Lost {
	var full uint64
	_ = f.egress.lost.Lookup(uint32(0), &full)
	return f.losses.since(f.egress.buckets, full+f.egress.unread.Load())
}

// Choose says whether senders in a network namespace are to be stopped, by its inode. Where that was not said yet
// they are: they may be gone before somebody knows.
func (f *OtherPackets) Choose(netns uint32, stop bool) error {
	if !f.egress.config.Chosen {
		return nil
	}
	var value uint32
	if stop {
		value = 1
	}
	return f.egress.chosen.Put(netns, value)
}

// CountAsOne says that all cgroups inside of one are the same sender, by its id: they share what one may have of the buffer. Those that
// sent nothing for longest are forgotten, so it is to be said for each packet.
func (f *OtherPackets) CountAsOne(cgroup uint64) error { return f.egress.ones.Put(cgroup, uint32(1)) }

// decodeOther reads a record.
func decodeOther(b []byte, calls map[uint32]string) (f OtherPacket, err error) {
	if len(b) < egrPacket {
		return f, fmt.Errorf("record of %d bytes, want %d", len(b), egrPacket)
	}
	if f.Send, err = decodeSend(b, calls); err != nil {
		return f, err
	}
	u32 := func(at int) uint32 { return binary.NativeEndian.Uint32(b[at:]) }
	f.Netns, f.NetnsOwner, f.SocketUID, f.SocketCgroup = u32(egrNetns), u32(egrOwner), u32(egrUID), binary.NativeEndian.Uint64(b[egrCgroup:])
	for i := range cgroupLevels {
		if id := binary.NativeEndian.Uint64(b[egrLevels+8*i:]); id != 0 {
			f.Cgroups = append(f.Cgroups, id)
		}
	}
	f.Data = append(f.Data, b[egrPacket:][:min(u32(egrLength), uint32(len(b)-egrPacket))]...)
	if len(f.Data) == 0 {
		return f, errors.New("record without a packet")
	}
	address := func(at, port int) netip.AddrPort {
		addr := netip.AddrFrom4([4]byte(b[at:]))
		if f.Data[0]>>4 == 6 {
			addr = netip.AddrFrom16([16]byte(b[at:]))
		}
		return netip.AddrPortFrom(addr, binary.BigEndian.Uint16(b[port:]))
	}
	f.To, f.Named = address(egrAddr, egrPort), address(egrNamed, egrToPort)
	return f, nil
}
