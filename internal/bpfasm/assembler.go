// Package bpfasm puts BPF programs together, for the running kernel: instructions and labels, how a
// program follows the kernel's pointers, and how it looks into maps.
package bpfasm

import (
	"fmt"

	"github.com/cilium/ebpf/asm"
)

// Places on the stack that the methods of an Assembler overwrite. A program may use them for what it
// needs for a moment only.
const (
	OnWord = -8  // 8 bytes of any kind
	OnKey  = -16 // a key of a map, up to 8 bytes
)

// An Assembler holds a program while it is written. Calls of helpers overwrite R0 to R5.
type Assembler struct {
	ins    asm.Instructions
	next   string // the label of the next instruction
	labels int
	later  []func()
}

// Add adds instructions.
func (a *Assembler) Add(ins ...asm.Instruction) {
	if a.next != "" && len(ins) > 0 {
		ins[0] = ins[0].WithSymbol(a.next)
		a.next = ""
	}
	a.ins = append(a.ins, ins...)
}

// Label names the next instruction.
func (a *Assembler) Label(name string) {
	if a.next != "" { // two labels at one place: a jump to the next instruction
		a.Add(asm.Instruction{OpCode: asm.OpCode(asm.JumpClass).SetJumpOp(asm.Ja)})
	}
	a.next = name
}

// Fresh returns a label that is not used yet.
func (a *Assembler) Fresh(name string) string {
	a.labels++
	return fmt.Sprintf("%s %d", name, a.labels)
}

// Later puts what add adds behind the rest of the program, which must not run into it.
func (a *Assembler) Later(add func()) { a.later = append(a.later, add) }

// End ends the program with its result, at the label "end", and returns it.
func (a *Assembler) End(result int32) asm.Instructions {
	a.Label("end")
	a.Add(asm.Mov.Imm(asm.R0, result), asm.Return())
	for len(a.later) > 0 {
		add := a.later[0]
		a.later = a.later[1:]
		add()
	}
	return a.ins
}

// Branch jumps by the 32-bit value in a register: to the label that to gives for each of the values,
// which are in ascending order, and to otherwise for all others. It takes log2 comparisons, and no map.
func (a *Assembler) Branch(reg asm.Register, values []uint32, to func(uint32) string, otherwise string) {
	const few = 3
	if len(values) <= few {
		for _, v := range values {
			a.Add(asm.JEq.Imm32(reg, int32(v), to(v)))
		}
		a.Add(asm.Ja.Label(otherwise))
		return
	}
	half := len(values) / 2
	upper := a.Fresh("upper")
	a.Add(asm.JGE.Imm32(reg, int32(values[half]), upper))
	a.Branch(reg, values[:half], to, otherwise)
	a.Label(upper)
	a.Branch(reg, values[half:], to, otherwise)
}
