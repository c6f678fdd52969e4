package sensor

import (
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"culprit/internal/bpfasm"
	"culprit/sensor/automaton"
)

// The program for the packets of other network namespaces, see egress.go. It goes from what costs least
// to what costs most: the namespace, the headers, the ports, the search, and then who runs.

// A record about such a packet has this after what all have.
const (
	egrNetns  = recSize       // u32: inode of the packet's network namespace (man 7 namespaces)
	egrUID    = egrNetns + 4  // u32: who opened the socket, as the initial user namespace has it
	egrPort   = egrUID + 4    // u16, big-endian: where the socket is connected to; 0: nowhere
	egrLength = egrPort + 4   // u32: how much of the packet follows
	egrAddr   = egrLength + 4 // [16]byte: where the socket is connected to; 4 bytes for IPv4
	egrCgroup = egrAddr + 16  // u64: cgroup of v2 that the socket was made in
	egrNamed  = egrCgroup + 8 // [16]byte: where it went before NAT, as egrAddr
	egrToPort = egrNamed + 16 // u16, big-endian: likewise; 0: not tracked
	egrOwner  = egrToPort + 4 // u32: who made the user namespace that the network namespace belongs to, as the initial one has it
	egrLevels = egrOwner + 4  // [cgroupLevels]u64: the cgroups that egrCgroup is in, the outermost first, and itself
	egrPacket = egrLevels + 8*cgroupLevels
)

// Places on the stack.
const (
	onStackHead  = -64 // a header, up to 40 bytes
	onStackMask  = -72 // u64: which wants may have the packet
	onStackFrom  = -80 // u64: where its payload begins
	onStackEnd   = -88 // u64: where the search ends
	onStackPiece = -96 // u64: how many pieces were searched
	onStackSize  = -104
	onStackStop  = -112              // u64: stopIt, or why its sender is not to be stopped; 0: nobody is to be
	onStackNetns = -120              // u64: the network namespace
	onStackBytes = -120 - searchStep // a piece of the payload
)

const stopIt = 1 << 16

// The payload is searched in pieces, as far as maxSearch.
const (
	searchStep = 128
	maxSearch  = 4096
)

// egressProgram is what one set of wants needs.
type egressProgram struct {
	assembler
	netns   uint32 // is not looked at
	snaplen int
	freeze  bool
	anyOf   uint64 // the wants that have no pattern
	listed  uint64 // those that have a list
	lists   string // name of the function to ask
	table   *automaton.Table
	rows    *ebpf.Map // the table
	ports   *ebpf.Map // by kind and port: which wants may have the packet
	packets *ebpf.Map // the ring
	chosen  *ebpf.Map // whether senders of a namespace are stopped; nil: of all they are
	lost    *ebpf.Map
	buckets *ebpf.Map // see share
	ones    *ebpf.Map

	function asm.Instructions // of lists
}

// Kinds of packets, in the key of a port.
const (
	kindTCP  = 1 << 16
	kindIPv6 = 2 << 16
)

const (
	protoTCP = 6
	protoUDP = 17
)

func (a *egressProgram) spec() *ebpf.ProgramSpec {
	if a.anyOf|a.listed != 0 || len(a.table.Searches) > 0 {
		a.write()
	}
	const name, goesOut = "culprit_egress", 1
	program := a.End(goesOut)
	if a.function != nil {
		program = append(bpfasm.Function{Name: name}.Instructions(program), a.function...)
	}
	return &ebpf.ProgramSpec{
		Name: name, Type: ebpf.CGroupSKB, AttachType: ebpf.AttachCGroupInetEgress, Instructions: program, License: "GPL",
	}
}

func (a *egressProgram) write() {
	a.Add(asm.Mov.Reg(asm.R6, asm.R1)) // struct __sk_buff *
	a.otherNamespace()
	a.Zero(asm.RFP, onStackMask, 8)
	a.Zero(asm.RFP, onStackStop, 8)
	a.headers()
	a.whichWants()
	a.search()
	a.Label("report")
	a.share()
	a.lookInto(a.packets, a.lost, int32(egrPacket+a.snaplen), a.loses)
	a.packet()
	if a.freeze {
		a.Add(asm.LoadMem(asm.R1, asm.RFP, onStackStop, asm.DWord), asm.StoreMem(regRecord, recWhyNot, asm.R1, asm.Word))
		a.unless(asm.JNE, asm.R1, stopIt)
		if a.chosen != nil {
			a.Add(asm.LoadMem(asm.R1, regRecord, egrNetns, asm.Word))
			a.Lookup(a.chosen, asm.R1)
			a.Add(asm.JEq.Imm(asm.R0, 0, "chosen"), asm.LoadMem(asm.R1, asm.R0, 0, asm.Word))
			a.unless(asm.JEq, asm.R1, 0)
			a.Label("chosen")
		}
		a.stop()
	}
	a.submitWith(0)
}

// otherNamespace goes on only for packets of other network namespaces. R8 is then their socket.
func (a *egressProgram) otherNamespace() {
	a.Follow(asm.R8, asm.R6, a.skbSock)
	a.Follow(asm.R9, asm.R8, a.sockNet)
	a.Follow(asm.R9, asm.R9, a.netInode) // and the 4 bytes after it
	a.Add(
		asm.Mov.Reg32(asm.R9, asm.R9),
		asm.LoadImm(asm.R1, int64(a.netns), asm.DWord),
		asm.JEq.Reg(asm.R9, asm.R1, "end"),
		asm.StoreMem(asm.RFP, onStackNetns, asm.R9, asm.DWord),
	)
}

// packet notes in the record where the packet comes from, and the packet.
func (a *egressProgram) packet() {
	a.Follow(asm.R8, asm.R6, a.skbSock)
	a.Probe(regRecord, egrUID, 4, asm.R8, a.sockUID)
	a.Probe(regRecord, egrPort, 2, asm.R8, a.sockPort)
	ipv4, address, copied, short := a.Fresh("ipv4"), a.Fresh("address"), a.Fresh("copied"), a.Fresh("short packet")
	const protocol, ethIPv6 = 16, 0x86dd // __sk_buff.protocol, ETH_P_IPV6
	a.Add(asm.LoadMem(asm.R1, asm.R6, protocol, asm.Word), asm.HostTo(asm.BE, asm.R1, asm.Half), asm.JNE.Imm(asm.R1, ethIPv6, ipv4))
	a.Probe(regRecord, egrAddr, 16, asm.R8, a.sockAddr6)
	a.Add(asm.Ja.Label(address))
	a.Label(ipv4)
	a.Probe(regRecord, egrAddr, 4, asm.R8, a.sockAddr)
	a.Label(address)
	a.Zero(regRecord, egrNamed, egrPacket-egrNamed)
	a.Follow(asm.R9, asm.R8, a.sockNet)
	a.Follow(asm.R9, asm.R9, a.netUsers)
	a.Probe(regRecord, egrOwner, 4, asm.R9, a.usersOwner)
	if a.canNAT() {
		untracked := a.Fresh("untracked")
		a.named(asm.R8, untracked)
		a.Probe(regRecord, egrNamed, 16, asm.R8, uint32(a.tupleDst))
		a.Probe(regRecord, egrToPort, 2, asm.R8, uint32(a.tupleDst+a.dstPort))
		a.Label(untracked)
	}
	a.Add(
		asm.Mov.Reg(asm.R1, asm.R6), asm.FnSkbCgroupId.Call(), asm.StoreMem(regRecord, egrCgroup, asm.R0, asm.DWord),
	)
	for i := range int32(cgroupLevels) {
		a.Add(
			asm.Mov.Reg(asm.R1, asm.R6), asm.Mov.Imm(asm.R2, 1+i), asm.FnSkbAncestorCgroupId.Call(), // 0: it is not as deep
			asm.StoreMem(regRecord, int16(egrLevels+8*i), asm.R0, asm.DWord),
		)
	}
	a.Add(
		asm.LoadMem(asm.R1, asm.RFP, onStackNetns, asm.DWord), asm.StoreMem(regRecord, egrNetns, asm.R1, asm.Word),
		asm.StoreImm(regRecord, egrLength, 0, asm.Word),
		asm.LoadMem(asm.R9, asm.R6, 0, asm.Word), // __sk_buff.len
		asm.JLE.Imm(asm.R9, int32(a.snaplen), short), asm.Mov.Imm(asm.R9, int32(a.snaplen)),
	)
	a.Label(short)
	a.Add(
		asm.JLT.Imm(asm.R9, 1, copied),
		asm.Mov.Reg(asm.R1, asm.R6), asm.Mov.Imm(asm.R2, 0),
		asm.Mov.Reg(asm.R3, regRecord), asm.Add.Imm(asm.R3, egrPacket),
		asm.Mov.Reg(asm.R4, asm.R9),
		asm.FnSkbLoadBytes.Call(),
		asm.JNE.Imm(asm.R0, 0, copied),
		asm.StoreMem(regRecord, egrLength, asm.R9, asm.Word),
	)
	a.Label(copied)
}
