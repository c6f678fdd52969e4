package bpfasm

import (
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// Probe reads size bytes of kernel memory at from+off to the address to+at, which is the program's
// own. They are 0 if that fails (bpf_probe_read_kernel, man 7 bpf-helpers).
func (a *Assembler) Probe(to asm.Register, at, size int32, from asm.Register, off uint32) {
	a.Add(
		asm.Mov.Reg(asm.R1, to), asm.Add.Imm(asm.R1, at),
		asm.Mov.Imm(asm.R2, size),
		asm.Mov.Reg(asm.R3, from), asm.Add.Imm(asm.R3, int32(off)),
		asm.FnProbeReadKernel.Call(),
	)
}

// Follow reads the 8 bytes of kernel memory at from+off, a pointer, into to. It is 0 if that fails.
func (a *Assembler) Follow(to, from asm.Register, off uint32) {
	a.Probe(asm.RFP, OnWord, 8, from, off)
	a.Add(asm.LoadMem(to, asm.RFP, OnWord, asm.DWord))
}

// Zero fills size bytes at to+at with zeros, 8 at a time. It overwrites R1.
func (a *Assembler) Zero(to asm.Register, at, size int16) {
	a.Add(asm.Mov.Imm(asm.R1, 0))
	for end := at + size; at < end; at += 8 {
		a.Add(asm.StoreMem(to, at, asm.R1, asm.DWord))
	}
}

// Lookup looks up the 4-byte key in a register. R0 is then the address of the value, or 0.
func (a *Assembler) Lookup(m *ebpf.Map, key asm.Register) {
	a.Add(
		asm.StoreMem(asm.RFP, OnKey, key, asm.Word),
		asm.LoadMapPtr(asm.R1, m.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, OnKey),
		asm.FnMapLookupElem.Call(),
	)
}

// Count adds one to the first entry of an array of 8-byte numbers.
func (a *Assembler) Count(m *ebpf.Map) {
	counted := a.Fresh("counted")
	a.Add(asm.Mov.Imm(asm.R1, 0))
	a.Lookup(m, asm.R1)
	a.Add(
		asm.JEq.Imm(asm.R0, 0, counted),
		asm.Mov.Imm(asm.R1, 1),
		asm.StoreXAdd(asm.R0, asm.R1, asm.DWord),
	)
	a.Label(counted)
}

// Exchange gives the 8 bytes at to+at the value of a register, which gets the old one, at once for all processors
// (Linux 5.12).
func Exchange(to, value asm.Register, at int16) asm.Instruction {
	in := asm.Xchg.Mem(to, value, asm.DWord, at)
	in.Constant = int64(asm.Xchg >> 8) // cilium/ebpf 0.22.0 writes what is here, and so makes an addition of it
	return in
}
