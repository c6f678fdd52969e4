package sensor

import (
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// The way "rule": the iptables rule itself runs the program, as a match after all others
// (-m bpf --object-pinned, man 8 iptables-extensions), in the sender's context. The packet
// is the program's own, so it is known by its bytes.
//
// The program is pinned, and the rule names the pin. Whoever loads the rule again must find it:
// see Pinned.

func ruleProgram(l *layout, m *maps, freeze bool) *ebpf.ProgramSpec {
	a := &assembler{layout: l, maps: m}
	a.Add(asm.Mov.Reg(regBytes, asm.R1)) // struct __sk_buff *
	a.look()
	const length = 0 // __sk_buff.len
	a.Add(asm.LoadMem(asm.R9, regBytes, length, asm.Word), asm.JLE.Imm(asm.R9, keySize, "short"), asm.Mov.Imm(asm.R9, keySize))
	a.Label("short")
	a.Add(
		asm.JEq.Imm(asm.R9, 0, "copied"),
		asm.StoreMem(regRecord, recKeyLen, asm.R9, asm.Word),
		asm.Mov.Reg(asm.R1, regBytes),
		asm.Mov.Imm(asm.R2, 0), // in OUTPUT the data begins with the IP header
		asm.Mov.Reg(asm.R3, regRecord), asm.Add.Imm(asm.R3, recKey),
		asm.Mov.Reg(asm.R4, asm.R9),
		asm.FnSkbLoadBytes.Call(),
	)
	a.Label("copied")
	if freeze {
		a.stop()
	}
	a.submit()
	const match = 1
	return &ebpf.ProgramSpec{Name: "culprit_rule", Type: ebpf.SocketFilter, Instructions: a.End(match), License: "GPL"}
}
