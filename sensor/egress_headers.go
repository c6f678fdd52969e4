package sensor

import "github.com/cilium/ebpf/asm"

// How the program for other network namespaces finds what kind of packet it has, and whether a rule looks at such.

// load loads bytes of the packet from an offset onto the stack, or ends.
func (a *egressProgram) load(from asm.Register, size int32) {
	a.Add(
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.Mov.Reg(asm.R2, from),
		asm.Mov.Reg(asm.R3, asm.RFP), asm.Add.Imm(asm.R3, onStackHead),
		asm.Mov.Imm(asm.R4, size),
		asm.FnSkbLoadBytes.Call(),
		asm.JNE.Imm(asm.R0, 0, "end"),
	)
}

// byteOf is a byte of what was loaded.
func (a *egressProgram) byteOf(to asm.Register, at int16) {
	a.Add(asm.LoadMem(to, asm.RFP, onStackHead+at, asm.Byte))
}

// headers finds the kind of the packet, its destination port and its payload. R7 is then the kind with the
// port, R9 whether it goes to a loopback address.
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
	a.byteOf(asm.R1, 16)
	a.Add(asm.JNE.Imm(asm.R1, 127, "transport"), asm.Or.Imm(asm.R9, isLoopback), asm.Ja.Label("transport"))

	a.Label("ipv6")
	a.load(asm.R7, 40)
	a.byteOf(asm.R9, 6)
	a.Add(
		asm.Mov.Imm(asm.R7, 40),
		asm.LoadMem(asm.R1, asm.RFP, onStackHead+24, asm.DWord), asm.JNE.Imm(asm.R1, 0, "not loopback"),
		asm.LoadMem(asm.R1, asm.RFP, onStackHead+32, asm.DWord), asm.HostTo(asm.BE, asm.R1, asm.DWord), asm.JNE.Imm(asm.R1, 1, "not loopback"),
		asm.Or.Imm(asm.R9, isLoopback),
	)
	a.Label("not loopback")
	a.Add(asm.Or.Imm(asm.R9, isIPv6))
	a.extensions()

	a.Label("transport")
	a.load(asm.R7, 8)
	a.Add(asm.LoadMem(asm.R8, asm.RFP, onStackHead, asm.Half), asm.HostTo(asm.BE, asm.R8, asm.Half), asm.StoreMem(asm.RFP, onStackSource, asm.R8, asm.DWord))
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
	isLoopback = 0x200
	isIPv6     = 0x100 // shifted by 9 it is kindIPv6
)

// extensions goes past the extension headers of IPv6 (RFC 8200, section 4).
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
		a.Add(asm.And.Imm(asm.R9, isLoopback|isIPv6), asm.Or.Reg(asm.R9, asm.R1))
	}
}

// whichWants notes which wants may have the packet, and ends if none. The hook comes after POSTROUTING, where
// the packet may have got another port: Docker's resolver at 127.0.0.11 is reached so. A socket that is
// connected knows where it meant to send. For one that is not, all that goes to a loopback address counts, unless it
// comes from such a port, as an answer does.
func (a *egressProgram) whichWants() {
	a.portWants(asm.R7)
	a.Follow(asm.R8, asm.R6, a.skbSock)
	a.Follow(asm.R8, asm.R8, a.sockPort) // and the 6 bytes after it
	a.Add(
		asm.And.Imm(asm.R8, 0xffff), asm.HostTo(asm.BE, asm.R8, asm.Half),
		asm.JNE.Imm(asm.R8, 0, "connected"),
		asm.And.Imm(asm.R9, isLoopback), asm.JEq.Imm(asm.R9, 0, "wanted"),
		asm.Mov.Reg(asm.R1, asm.R7), asm.And.Imm(asm.R1, kindTCP|kindIPv6),
		asm.LoadMem(asm.R2, asm.RFP, onStackSource, asm.DWord), asm.Or.Reg(asm.R1, asm.R2),
	)
	a.Lookup(a.ports, asm.R1)
	a.Add(asm.JNE.Imm(asm.R0, 0, "wanted"))
	a.Label("connected") // or to any port, which is 0
	a.Add(asm.And.Imm(asm.R7, kindTCP|kindIPv6), asm.Or.Reg(asm.R7, asm.R8))
	a.portWants(asm.R7)
	a.Label("wanted")
	a.Add(asm.LoadMem(asm.R1, asm.RFP, onStackMask, asm.DWord), asm.JEq.Imm(asm.R1, 0, "end"))
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
