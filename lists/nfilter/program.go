package nfilter

import (
	"encoding/binary"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"culprit/internal/bpfasm"
)

// The program runs with the lock of our NFLOG group held, so for one packet at a time (nfulnl_log_packet in
// net/netfilter/nfnetlink_log.c). Therefore one scratch, without a copy for each processor, is enough.
//
// It must stay below 1,200 instructions: before Linux 6.8 a socket has 20 KiB for its filters (net.core.optmem_max), and while one
// takes the place of another it has both.

// Registers, all through: R7 holds the rule, R8 the scratch. R6 is the message until its name is hashed.
const (
	regMessage = asm.R6
	regHash    = asm.R6
	regRule    = asm.R7
	regScratch = asm.R8
	regAt      = asm.R9 // in the scratch
)

// Places on the stack, below those of [bpfasm].
const (
	onCount   = -40           // attributes so far; then labels of the name
	onMessage = -48           // the message
	onPrint   = -56           // fingerprints
	onSecond  = -64           // where the second of them is
	onThird   = -72           // where the third is
	onHeader  = -72 - 32      // the beginning of the message
	onRule    = onHeader - 56 // its prefix
)

// The scratch.
const (
	atPacket    = 0    // a copy
	atPrevious  = 1024 // for where each label begins in the packet, where the one before it begins: 512 times two bytes
	atHashes    = 2048 // of the name's last label, its last two labels, and so on: 128 times eight bytes
	atForgotten = 3072 // see forget
	atCount     = 3080 // how many hashes
	atLen       = 3088 // length of the packet
	atName      = 3096 // where the name begins
	scratchSize = 4096
	maxPacket   = 512 // a plain question is shorter, also with the longest headers
	placeMask   = maxPacket - 1
)

// Messages of NFLOG (include/uapi/linux/netfilter/nfnetlink_log.h).
const (
	packetMessage   = 4 << 8 // NFNL_SUBSYS_ULOG, NFULNL_MSG_PACKET
	prefixHeaderAt  = 16 + 4 + 8
	prefixAt        = prefixHeaderAt + 4
	nfulaPrefix     = 10
	nfulaPayload    = 9
	manyAttributes  = 24
	smallestPacket  = 28
	smallestPayload = 18 // header of a query with one question, whose name is a pointer; type and class
)

// What the program returns: how many bytes of the message are kept.
const (
	keepAll  = -1
	keepNone = 0
)

type program struct {
	bpfasm.Assembler
	*Filter
	ctx *ebpf.Map // decided
}

func (f *Filter) spec(decided *ebpf.Map) *ebpf.ProgramSpec {
	p := &program{Filter: f, ctx: decided}
	p.message()
	p.payload()
	p.headers()
	p.question()
	p.ask()
	p.outcomes()
	return &ebpf.ProgramSpec{Name: "culprit_filter", Type: ebpf.SocketFilter, Instructions: p.End(keepAll), License: "GPL"}
}

// ask jumps to what the list of the rule says of the question.
func (p *program) ask() {
	p.hash()
	p.lookup("listed", int16(unsafe.Offsetof(rule{}.listed)), p.listed, "may be", "drop")
	p.Label("may be")
	p.lookup("excepted", int16(unsafe.Offsetof(rule{}.excepted)), p.excepted, "undecided", "pass")
}

// count counts what the list said.
func (p *program) count(off uintptr) {
	p.Add(asm.Mov.Imm(asm.R1, 1), asm.Add.Imm(regRule, int32(unsafe.Offsetof(rule{}.counts)+off)), asm.StoreXAdd(regRule, asm.R1, asm.DWord))
}

// outcomes end the program.
func (p *program) outcomes() {
	p.Label("pass")
	p.Add(
		asm.LoadMem(asm.R1, asm.RFP, onMessage, asm.DWord),
		asm.LoadMapValue(asm.R2, p.ctx.FD(), 0), asm.StoreMem(asm.R2, 0, asm.R1, asm.DWord),
	)
	p.count(unsafe.Offsetof(Counts{}.Passed))
	p.Add(asm.Ja.Label("end"))
	p.Label("drop")
	p.count(unsafe.Offsetof(Counts{}.Dropped))
	p.Add(asm.Mov.Imm(asm.R0, keepNone), asm.Return())
	p.Label("undecided")
	p.count(unsafe.Offsetof(Counts{}.Undecided))
}

// message finds the rule of a message. What is no packet, or of a rule without lists, passes.
func (p *program) message() {
	p.Add(
		asm.Mov.Reg(regMessage, asm.R1),
		asm.StoreMem(asm.RFP, onMessage, regMessage, asm.DWord),
		asm.Mov.Imm(asm.R2, 0),
		asm.Mov.Reg(asm.R3, asm.RFP), asm.Add.Imm(asm.R3, onHeader),
		asm.Mov.Imm(asm.R4, prefixAt),
		asm.FnSkbLoadBytes.Call(),
		asm.JNE.Imm(asm.R0, 0, "end"),
		asm.LoadMem(asm.R1, asm.RFP, onHeader+4, asm.Half), // nlmsghdr.nlmsg_type
		asm.JNE.Imm(asm.R1, packetMessage, "end"),
		asm.LoadMapValue(asm.R2, p.ctx.FD(), 0), asm.Mov.Imm(asm.R1, 0), asm.StoreMem(asm.R2, 0, asm.R1, asm.DWord),
		// Several packets may be in one message of a rule with another threshold.
		asm.LoadMem(asm.R1, asm.RFP, onHeader, asm.Word), // nlmsghdr.nlmsg_len
		asm.LoadMem(asm.R2, regMessage, 0, asm.Word),     // __sk_buff.len
		asm.JNE.Reg(asm.R1, asm.R2, "end"),
		asm.LoadMem(asm.R1, asm.RFP, onHeader+prefixHeaderAt+2, asm.Half),
		asm.JNE.Imm(asm.R1, nfulaPrefix, "end"),
		asm.LoadMem(asm.R4, asm.RFP, onHeader+prefixHeaderAt, asm.Half),
		asm.Mov.Reg(regAt, asm.R4),
		asm.Add.Imm(regAt, prefixHeaderAt+3), asm.And.Imm(regAt, ^3),
		asm.Sub.Imm(asm.R4, 4),
		asm.JLT.Imm(asm.R4, 1, "end"),
		asm.JGT.Imm(asm.R4, ruleKey, "end"),
	)
	p.Zero(asm.RFP, onRule, ruleKey)
	p.Add(
		asm.Mov.Reg(asm.R1, regMessage),
		asm.Mov.Imm(asm.R2, prefixAt),
		asm.Mov.Reg(asm.R3, asm.RFP), asm.Add.Imm(asm.R3, onRule),
		asm.FnSkbLoadBytes.Call(),
		asm.JNE.Imm(asm.R0, 0, "end"),
		asm.LoadMapPtr(asm.R1, p.rules.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, onRule),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "end"),
		asm.Mov.Reg(regRule, asm.R0),
	)
}

// payload copies the packet, which is the message's last attribute, to the scratch.
func (p *program) payload() {
	p.Zero(asm.RFP, onCount, 8)
	p.Label("attribute")
	p.Add(
		asm.Mov.Reg(asm.R1, regMessage),
		asm.Mov.Reg(asm.R2, regAt),
		asm.Mov.Reg(asm.R3, asm.RFP), asm.Add.Imm(asm.R3, bpfasm.OnWord),
		asm.Mov.Imm(asm.R4, 4),
		asm.FnSkbLoadBytes.Call(),
		asm.JNE.Imm(asm.R0, 0, "undecided"),
		asm.LoadMem(asm.R4, asm.RFP, bpfasm.OnWord, asm.Half),
		asm.LoadMem(asm.R1, asm.RFP, bpfasm.OnWord+2, asm.Half),
		asm.JEq.Imm(asm.R1, nfulaPayload, "payload"),
		asm.JLT.Imm(asm.R4, 4, "undecided"),
		asm.Add.Imm(asm.R4, 3), asm.And.Imm(asm.R4, ^3),
		asm.Add.Reg(regAt, asm.R4),
		asm.LoadMem(asm.R1, asm.RFP, onCount, asm.DWord),
		asm.Add.Imm(asm.R1, 1),
		asm.StoreMem(asm.RFP, onCount, asm.R1, asm.DWord),
		asm.JLT.Imm(asm.R1, manyAttributes, "attribute"),
		asm.Ja.Label("undecided"),
	)
	p.Label("payload")
	p.Add(
		asm.Sub.Imm(asm.R4, 4),
		asm.JLT.Imm(asm.R4, smallestPacket, "undecided"),
		asm.JGT.Imm(asm.R4, maxPacket, "undecided"),
		asm.LoadMapValue(regScratch, p.scratch.FD(), 0),
	)
	p.copy(4)
}

// copy copies the R4 bytes after regAt and a header to the scratch.
func (p *program) copy(header int32) {
	p.Add(
		asm.StoreMem(regScratch, atLen, asm.R4, asm.DWord),
		asm.Mov.Reg(asm.R1, regMessage),
		asm.Mov.Reg(asm.R2, regAt), asm.Add.Imm(asm.R2, header),
		asm.Mov.Reg(asm.R3, regScratch),
		asm.FnSkbLoadBytes.Call(),
		asm.JNE.Imm(asm.R0, 0, "undecided"),
	)
}

// headers goes to the DNS message of a whole packet. Without one that can hold a question the packet is dropped.
func (p *program) headers() {
	const (
		ipv4, ipv6 = 4, 6
		tcp, udp   = 6, 17
	)
	p.Add(
		asm.LoadMem(asm.R5, regScratch, atLen, asm.DWord),
		asm.LoadMem(regAt, regScratch, 0, asm.Byte),
		asm.Mov.Reg(asm.R1, regAt), asm.RSh.Imm(asm.R1, 4),
		asm.JEq.Imm(asm.R1, ipv6, "IPv6"),
		asm.JNE.Imm(asm.R1, ipv4, "undecided"),
		asm.And.Imm(regAt, 0xf), asm.LSh.Imm(regAt, 2),
		asm.JLT.Imm(regAt, 20, "undecided"),
		asm.LoadMem(asm.R1, regScratch, 2, asm.Half), asm.HostTo(asm.BE, asm.R1, asm.Half),
		asm.JNE.Reg(asm.R1, asm.R5, "undecided"),
		asm.LoadMem(asm.R1, regScratch, 6, asm.Half), asm.HostTo(asm.BE, asm.R1, asm.Half),
		asm.And.Imm(asm.R1, 0x3fff), // more fragments, or not the first one
		asm.JNE.Imm(asm.R1, 0, "undecided"),
		asm.LoadMem(asm.R1, regScratch, 9, asm.Byte),
		asm.Ja.Label("transport"),
	)
	p.Label("IPv6")
	p.Add(
		asm.LoadMem(asm.R1, regScratch, 4, asm.Half), asm.HostTo(asm.BE, asm.R1, asm.Half),
		asm.Add.Imm(asm.R1, 40),
		asm.JNE.Reg(asm.R1, asm.R5, "undecided"),
		asm.LoadMem(asm.R1, regScratch, 6, asm.Byte), // extension headers are undecided
		asm.Mov.Imm(regAt, 40),
	)
	p.Label("transport")
	p.Add(
		asm.Mov.Reg(asm.R2, regScratch), asm.Add.Reg(asm.R2, regAt), // the header
		asm.Sub.Reg(asm.R5, regAt), // what is left
		asm.JEq.Imm(asm.R1, tcp, "TCP"),
		asm.JNE.Imm(asm.R1, udp, "undecided"),
		asm.JSLT.Imm(asm.R5, 8, "undecided"),
		asm.LoadMem(asm.R1, asm.R2, 4, asm.Half), asm.HostTo(asm.BE, asm.R1, asm.Half),
		asm.JNE.Reg(asm.R1, asm.R5, "undecided"),
		asm.JLT.Imm(asm.R5, 8+smallestPayload, "drop"),
		asm.Add.Imm(regAt, 8),
		asm.Ja.Label("DNS"),
	)
	p.Label("TCP")
	p.Add(
		asm.JSLT.Imm(asm.R5, 20, "undecided"),
		asm.LoadMem(asm.R1, asm.R2, 12, asm.Byte),
		asm.RSh.Imm(asm.R1, 4), asm.LSh.Imm(asm.R1, 2),
		asm.JLT.Imm(asm.R1, 20, "undecided"),
		asm.JGT.Reg(asm.R1, asm.R5, "undecided"),
		asm.Sub.Reg(asm.R5, asm.R1),
		asm.JLT.Imm(asm.R5, smallestPayload, "drop"),
		asm.Add.Reg(asm.R2, asm.R1),
		asm.Add.Reg(regAt, asm.R1),
		// One whole message after its length.
		asm.LoadMem(asm.R1, asm.R2, 0, asm.Half), asm.HostTo(asm.BE, asm.R1, asm.Half),
		asm.Add.Imm(asm.R1, 2),
		asm.JNE.Reg(asm.R1, asm.R5, "undecided"),
		asm.Add.Imm(regAt, 2),
	)
	p.Label("DNS")
	p.forget(regAt)
}

// forget makes the verifier forget what it knows of a number, which it would otherwise follow through all loops for each value
// that the number can have: by way of memory, of whose contents it knows nothing.
func (p *program) forget(regs ...asm.Register) {
	for _, r := range regs {
		p.Add(asm.StoreMem(regScratch, atForgotten, r, asm.DWord), asm.LoadMem(r, regScratch, atForgotten, asm.DWord))
	}
}

// be16 is a number as it stands in a packet, read by this machine.
func be16(v uint16) int32 {
	return int32(binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v)))
}
