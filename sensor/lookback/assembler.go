package lookback

import (
	"slices"

	"github.com/cilium/ebpf/asm"

	"culprit/internal/bpfasm"
)

// assembler puts a program together. The programs are typed ones (tp_btf): what the kernel gives
// them, and what that points to, they read without a helper, which would cost them most. Registers,
// once there is a record: R7 holds the address of the segment, R8 where in it the record begins, R9 where
// it goes on. R6 is for anything.
type assembler struct {
	*layout
	*ring
	bpfasm.Assembler
	received bool // buffers hold what the call received, no more
}

const (
	regSegment = asm.R7
	regBegin   = asm.R8
	regAt      = asm.R9
)

// Places on the stack, below those of [bpfasm].
const (
	onState   = -24 // the address of the processor's state
	onTask    = -32 // struct task_struct *
	onRegs    = -40 // struct pt_regs *, of the thread when it made the call
	onResult  = -48
	onNumber  = -56 // of the call, with flags
	onBinary  = -64 // struct linux_binprm *, of a program that starts
	onVectors = -72 // the address of an array, such as of struct iovec
	onCount   = -80 // its length
	onVector  = -96 // one of them
	onSock    = onVector - sockSize
	onHeader  = onSock             // a struct msghdr; it has the same size
	onBlock   = onSock - blockSize // members of a struct of the kernel
	blockSize = 72
)

// recorded puts the task onto the stack and into R0, and goes on only if its real user is one who is
// recorded.
func (a *assembler) recorded() {
	a.Add(asm.FnGetCurrentTaskBtf.Call(), asm.StoreMem(asm.RFP, onTask, asm.R0, asm.DWord))
	a.pointer(asm.R1, asm.R0, a.taskCred)
	a.Add(asm.LoadMem(asm.R1, asm.R1, int16(a.credUID), asm.Word))
	if a.config.All {
		a.Add(asm.JEq.Imm32(asm.R1, 0, "end"))
		return
	}
	recorded := a.Fresh("recorded")
	uids := slices.Clone(a.config.Users)
	slices.Sort(uids)
	a.Branch(asm.R1, slices.Compact(uids), func(uint32) string { return recorded }, "end")
	a.Label(recorded)
}

// pointer loads a pointer to a struct that the verifier knows. The program ends if there is none,
// which the verifier wants to be asked of some.
func (a *assembler) pointer(to, from asm.Register, off uint32) {
	a.Add(asm.LoadMem(to, from, int16(off), asm.DWord), asm.JEq.Imm(to, 0, "end"))
}

// call puts the number of the call, which is in R7, onto the stack, and marks one of the 32-bit
// interface, whose numbers are others. It overwrites R0.
func (a *assembler) call() {
	if a.compat >= 0 {
		const status, toFlag = 0x2, 30 // TS_COMPAT of x86, in arch/x86/include/asm/thread_info.h; becomes callCompat
		a.Add(
			asm.LoadMem(asm.R0, asm.RFP, onTask, asm.DWord),
			asm.LoadMem(asm.R0, asm.R0, int16(a.compat), asm.Word),
			asm.And.Imm(asm.R0, status), asm.LSh.Imm(asm.R0, toFlag), asm.Or.Reg(asm.R7, asm.R0),
		)
	}
	a.Add(asm.StoreMem(asm.RFP, onNumber, asm.R7, asm.DWord))
}

// arg loads an argument of the call, or as much of it as size says.
func (a *assembler) arg(to asm.Register, n int, size asm.Size) []asm.Instruction {
	return []asm.Instruction{asm.LoadMem(to, asm.RFP, onRegs, asm.DWord), asm.LoadMem(to, to, int16(a.args[n]), size)}
}

// onStack loads what is on the stack.
func onStack(to asm.Register, at int16) []asm.Instruction {
	return []asm.Instruction{asm.LoadMem(to, asm.RFP, at, asm.DWord)}
}

// member is a member of a struct of the kernel: its offset and size.
type member struct {
	off  uint32
	size asm.Size
}

// members reads members of the struct of a kind (see [casts]) whose address is in from, a register that
// calls do not overwrite. at loads one of them, before the next such read; they are 0 if the address is none.
func (a *assembler) members(kind uint32, from asm.Register, members ...member) (at func(to asm.Register, i int) asm.Instruction) {
	if a.cast != 0 {
		call := asm.Instruction{OpCode: asm.OpCode(asm.JumpClass).SetJumpOp(asm.Call), Src: asm.PseudoKfuncCall, Constant: int64(a.cast)}
		a.Add(asm.Mov.Reg(asm.R1, from), asm.Mov.Imm(asm.R2, int32(kind)), call, asm.Mov.Reg(from, asm.R0))
		return func(to asm.Register, i int) asm.Instruction {
			return asm.LoadMem(to, from, int16(members[i].off), members[i].size)
		}
	}
	const align = 8
	low, high := members[0].off, uint32(0)
	for _, m := range members {
		low, high = min(low, m.off), max(high, m.off+uint32(m.size.Sizeof()))
	}
	places := make([]int16, len(members))
	if low -= low % align; high-low <= blockSize { // near each other: one call reads them all
		a.Probe(asm.RFP, onBlock, int32(high-low), from, low)
		for i, m := range members {
			places[i] = onBlock + int16(m.off-low)
		}
	} else {
		for i, m := range members {
			places[i] = onBlock + int16(align*i)
			a.Probe(asm.RFP, int32(places[i]), int32(m.size.Sizeof()), from, m.off)
		}
	}
	return func(to asm.Register, i int) asm.Instruction {
		return asm.LoadMem(to, asm.RFP, places[i], members[i].size)
	}
}
