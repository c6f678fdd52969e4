package sensor

import (
	"encoding/binary"
	"net/netip"

	"github.com/cilium/ebpf/asm"
)

// How the program for other network namespaces finds what kind of packet it has, and whether a rule looks at such.

// load loads bytes of the packet from an offset onto the stack, or ends.
func (a *egressProgram) load(from asm.Register, size int32) { a.loadOr(from, size, "end") }

// loadOr is load, but goes on elsewhere if the packet ends before that.
func (a *egressProgram) loadOr(from asm.Register, size int32, short string) {
	a.Add(
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.Mov.Reg(asm.R2, from),
		asm.Mov.Reg(asm.R3, asm.RFP), asm.Add.Imm(asm.R3, onStackHead),
		asm.Mov.Imm(asm.R4, size),
		asm.FnSkbLoadBytes.Call(),
		asm.JNE.Imm(asm.R0, 0, short),
	)
}

// byteOf is a byte of what was loaded.
func (a *egressProgram) byteOf(to asm.Register, at int16) {
	a.Add(asm.LoadMem(to, asm.RFP, onStackHead+at, asm.Byte))
}

// headers finds the kind of the packet, its destination port and its payload. R7 is then the kind with the
// port, R9 whether it goes to Docker's resolver.
func (a *egressProgram) headers() {
	// R7: where the transport header begins. R9: its protocol.
	a.Add(asm.Mov.Imm(asm.R7, 0))
	a.load(asm.R7, 20)
	a.byteOf(asm.R1, 0)
	a.Add(asm.Mov.Reg(asm.R2, asm.R1), asm.RSh.Imm(asm.R2, 4), asm.JEq.Imm(asm.R2, 6, "ipv6"), asm.JNE.Imm(asm.R2, 4, "end"))
	a.Add(asm.And.Imm(asm.R1, 0xf), asm.LSh.Imm(asm.R1, 2), asm.Mov.Reg(asm.R7, asm.R1))
	a.Add(asm.LoadMem(asm.R1, asm.RFP, onStackHead+6, asm.Half), asm.HostTo(asm.BE, asm.R1, asm.Half))
	a.Add(asm.And.Imm(asm.R1, 0x1fff), asm.JNE.Imm(asm.R1, 0, "end")) // a later fragment
	a.byteOf(asm.R9, 9)
	a.Add(
		asm.LoadMem(asm.R1, asm.RFP, onStackHead+16, asm.Word), asm.HostTo(asm.BE, asm.R1, asm.Word),
		asm.JNE.Imm(asm.R1, int32(binary.BigEndian.Uint32(DockerResolver().AsSlice())), "transport"), asm.Or.Imm(asm.R9, toDocker), asm.Ja.Label("transport"),
	)

	a.Label("ipv6")
	a.load(asm.R7, 40)
	a.byteOf(asm.R9, 6)
	a.Add(asm.Mov.Imm(asm.R7, 40), asm.Or.Imm(asm.R9, isIPv6))
	a.extensions()

	a.Label("transport")
	a.load(asm.R7, 8)
	a.Add(asm.LoadMem(asm.R8, asm.RFP, onStackHead+2, asm.Half), asm.HostTo(asm.BE, asm.R8, asm.Half))
	a.Add(asm.Mov.Reg(asm.R1, asm.R9), asm.And.Imm(asm.R1, isIPv6), asm.LSh.Imm(asm.R1, 9), asm.Or.Reg(asm.R8, asm.R1)) // becomes kindIPv6
	a.Add(asm.Mov.Reg(asm.R1, asm.R9), asm.And.Imm(asm.R1, 0xff), asm.JEq.Imm(asm.R1, protoTCP, "tcp"), asm.JNE.Imm(asm.R1, protoUDP, "end"))
	a.Add(asm.Add.Imm(asm.R7, 8), asm.Ja.Label("payload"))
	a.Label("tcp")
	a.load(asm.R7, 20)
	a.byteOf(asm.R1, 12)
	a.Add(asm.RSh.Imm(asm.R1, 4), asm.LSh.Imm(asm.R1, 2), asm.Add.Reg(asm.R7, asm.R1), asm.Or.Imm(asm.R8, kindTCP))
	a.Label("payload")
	a.Add(asm.StoreMem(asm.RFP, onStackFrom, asm.R7, asm.DWord), asm.Mov.Reg(asm.R7, asm.R8))
}

// Beside the protocol of a packet.
const (
	toDocker = 0x200
	isIPv6   = 0x100 // shifted by 9 it is kindIPv6
)

// extensions goes past the extension headers of IPv6 (RFC 8200, section 4). Nobody sends more than four but who hides something: what
// is behind them is searched as if any want may have it, and user space finds the port.
func (a *egressProgram) extensions() {
	const hopByHop, routing, fragment, options = 0, 43, 44, 60
	for range 4 {
		next, long := a.Fresh("next header"), a.Fresh("long header")
		a.Add(
			asm.Mov.Reg(asm.R1, asm.R9), asm.And.Imm(asm.R1, 0xff),
			asm.JEq.Imm(asm.R1, hopByHop, long), asm.JEq.Imm(asm.R1, routing, long), asm.JEq.Imm(asm.R1, options, long),
			asm.JNE.Imm(asm.R1, fragment, "transport"),
		)
		a.load(asm.R7, 8)
		a.Add(asm.LoadMem(asm.R1, asm.RFP, onStackHead+2, asm.Half), asm.HostTo(asm.BE, asm.R1, asm.Half), asm.JGE.Imm(asm.R1, 8, "end")) // a later fragment
		a.Add(asm.Add.Imm(asm.R7, 8), asm.Ja.Label(next))
		a.Label(long)
		a.load(asm.R7, 8)
		a.byteOf(asm.R1, 1)
		a.Add(asm.Add.Imm(asm.R1, 1), asm.LSh.Imm(asm.R1, 3), asm.Add.Reg(asm.R7, asm.R1))
		a.Label(next)
		a.byteOf(asm.R1, 0)
		a.Add(asm.And.Imm(asm.R9, toDocker|isIPv6), asm.Or.Reg(asm.R9, asm.R1))
	}
	more := a.Fresh("more headers")
	a.Add(
		asm.Mov.Reg(asm.R1, asm.R9), asm.And.Imm(asm.R1, 0xff),
		asm.JEq.Imm(asm.R1, hopByHop, more), asm.JEq.Imm(asm.R1, routing, more), asm.JEq.Imm(asm.R1, options, more),
		asm.JNE.Imm(asm.R1, fragment, "transport"),
	)
	a.Label(more)
	a.Add(
		asm.StoreMem(asm.RFP, onStackFrom, asm.R7, asm.DWord),
		asm.Mov.Imm(asm.R1, -1), asm.StoreMem(asm.RFP, onStackMask, asm.R1, asm.DWord),
		asm.Ja.Label("wanted"),
	)
}

// DockerResolver is where Docker's resolver is in the network namespace of each container.
func DockerResolver() netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 0, 11}) }

// whichWants notes which wants may have the packet, and ends if none. The hook comes after POSTROUTING, where
// the packet may have got another port. What its sender named is known by connection tracking, and where a socket is connected to by
// that. Docker's resolver has a port besides 53 that it is sent to, which everybody in the container can see: there each UDP packet
// counts but an answer, which the resolver itself takes no notice of.
func (a *egressProgram) whichWants() {
	a.portWants(asm.R7)
	a.Follow(asm.R8, asm.R6, a.skbSock)
	a.Follow(asm.R8, asm.R8, a.sockPort) // and the 6 bytes after it
	a.alsoPort("socket")
	if a.canNAT() {
		a.named(asm.R8, "not tracked")
		a.Follow(asm.R8, asm.R8, uint32(a.tupleDst+a.dstPort)) // and the 6 bytes after it
		a.alsoPort("named")
		a.Label("not tracked")
	}
	const header, flags, answer = 4, 2, 0x80 // of a message of DNS (RFC 1035, section 4.1.1)
	a.Add(
		asm.JNE.Imm(asm.R9, protoUDP|toDocker, "wanted"),
		asm.LoadMem(asm.R8, asm.RFP, onStackFrom, asm.DWord),
	)
	a.loadOr(asm.R8, header, "wanted")
	a.byteOf(asm.R1, flags)
	a.Add(asm.And.Imm(asm.R1, answer), asm.JNE.Imm(asm.R1, 0, "wanted"), asm.And.Imm(asm.R7, kindTCP|kindIPv6))
	a.portWants(asm.R7)
	a.Label("wanted")
	a.Add(asm.LoadMem(asm.R1, asm.RFP, onStackMask, asm.DWord), asm.JEq.Imm(asm.R1, 0, "end"))
}

// alsoPort adds the wants of a port, if it is another one than that of the packet. It is in R8, big-endian; 0: none.
func (a *egressProgram) alsoPort(of string) {
	same := a.Fresh("port of " + of)
	a.Add(
		asm.And.Imm(asm.R8, 0xffff), asm.JEq.Imm(asm.R8, 0, same), asm.HostTo(asm.BE, asm.R8, asm.Half),
		asm.Mov.Reg(asm.R1, asm.R7), asm.And.Imm(asm.R1, kindTCP|kindIPv6), asm.Or.Reg(asm.R8, asm.R1),
		asm.JEq.Reg(asm.R8, asm.R7, same),
	)
	a.portWants(asm.R8)
	a.Label(same)
}

// canNAT reports whether the kernel can change where packets go.
func (a *egressProgram) canNAT() bool { return a.skbTracked >= 0 && a.connTuples >= 0 }

// named gets what connection tracking has of the packet as it was before NAT: the address of its struct nf_conntrack_tuple, that of the
// packet's direction (nf_ct_get and nf_ct_get_tuple in net/netfilter). It jumps where nothing is tracked.
func (a *egressProgram) named(to asm.Register, untracked string) {
	original := a.Fresh("original")
	const infoMask, isReply, isUntracked = 7, 3, 7 // NFCT_INFOMASK, IP_CT_IS_REPLY, IP_CT_UNTRACKED
	a.Follow(to, asm.R6, uint32(a.skbTracked))
	a.Add(
		asm.Mov.Reg(asm.R1, to), asm.And.Imm(asm.R1, infoMask), asm.And.Imm(to, ^infoMask),
		asm.JEq.Imm(to, 0, untracked), asm.JEq.Imm(asm.R1, isUntracked, untracked),
		asm.Add.Imm(to, int32(a.connTuples)),
		asm.JLT.Imm(asm.R1, isReply, original), asm.Add.Imm(to, int32(a.connReply)),
	)
	a.Label(original)
}

// portWants adds the wants of a kind with a port.
func (a *egressProgram) portWants(key asm.Register) {
	none := a.Fresh("no want")
	a.Lookup(a.ports, key)
	a.Add(
		asm.JEq.Imm(asm.R0, 0, none),
		asm.LoadMem(asm.R1, asm.R0, 0, asm.DWord),
		asm.LoadMem(asm.R2, asm.RFP, onStackMask, asm.DWord),
		asm.Or.Reg(asm.R1, asm.R2),
		asm.StoreMem(asm.RFP, onStackMask, asm.R1, asm.DWord),
	)
	a.Label(none)
}
