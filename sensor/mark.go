package sensor

import (
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"culprit/internal/bpfasm"
)

// The way "mark": the iptables rule sets one bit of the packet's mark, and a program on the
// raw tracepoint net_dev_queue looks for the bit when the packet is given to its device, which
// is most often still in the sender's context. The packet is known by its bytes.

// markProgram is told the bit, and the network namespace by its inode (man 7 namespaces): the
// tracepoint fires for all of them, and somebody else may mark packets there.
func markProgram(l *layout, m *maps, freeze bool, bit, netns uint32) *ebpf.ProgramSpec {
	a := &assembler{layout: l, maps: m, disabled: 1} // by __dev_queue_xmit
	a.Add(asm.LoadMem(asm.R6, asm.R1, 0, asm.DWord)) // struct sk_buff *
	a.Follow(asm.R9, asm.R6, l.skbMark)              // and the 4 bytes after it
	a.Add(
		asm.LoadImm(asm.R1, int64(bit), asm.DWord),
		asm.And.Reg(asm.R9, asm.R1), asm.JEq.Imm(asm.R9, 0, "end"),
	)
	a.Follow(asm.R9, asm.R6, l.skbDevice)
	a.Follow(asm.R9, asm.R9, l.deviceNet)
	a.Follow(asm.R9, asm.R9, l.netInode) // and the 4 bytes after it
	a.Add(
		asm.LoadImm(asm.R1, int64(netns), asm.DWord),
		asm.LSh.Imm(asm.R9, 32), asm.RSh.Imm(asm.R9, 32),
		asm.JNE.Reg(asm.R9, asm.R1, "end"),
	)
	a.look()
	// The bytes from the IP header to the end of the linear part: tail and network_header are
	// offsets from head (NET_SKBUFF_DATA_USES_OFFSET on 64-bit machines).
	a.Follow(asm.R9, asm.R6, l.skbTail)
	a.Add(asm.LSh.Imm(asm.R9, 32), asm.RSh.Imm(asm.R9, 32), asm.Mov.Reg(regTask, asm.R9))
	a.Follow(asm.R9, asm.R6, l.skbNetwork)
	a.Add(asm.And.Imm(asm.R9, 0xffff), asm.Sub.Reg(regTask, asm.R9))
	a.Add(asm.StoreMem(asm.RFP, bpfasm.OnKey, asm.R9, asm.DWord))
	a.Follow(asm.R9, asm.R6, l.skbHead)
	a.Add(asm.LoadMem(regBytes, asm.RFP, bpfasm.OnKey, asm.DWord), asm.Add.Reg(regBytes, asm.R9))
	a.Add(asm.JLE.Imm(regTask, keySize, "short"), asm.Mov.Imm(regTask, keySize))
	a.Label("short")
	a.copyKey(regTask)
	if freeze {
		a.stop()
	}
	a.submit()
	return &ebpf.ProgramSpec{Name: "culprit_mark", Type: ebpf.RawTracepoint, Instructions: a.End(0), License: "GPL"}
}
