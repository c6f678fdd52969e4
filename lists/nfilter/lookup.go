package nfilter

import (
	"unsafe"

	"github.com/cilium/ebpf/asm"

	"culprit/lists/set"
)

// kinds are those of the entries that any rule has. Others are not looked up.
type kinds struct{ self, below, whole bool }

func (k *kinds) add(f *set.Filter) {
	k.self, k.below, k.whole = k.self || f.Self, k.below || f.Below, k.whole || f.Whole
}

// lookup asks the table of a rule for the suffixes of the name, as [set.Filter.May] does, and jumps. In the loop no ways part
// and meet again, which the verifier would all follow.
func (p *program) lookup(label string, table int16, k kinds, found, otherwise string) {
	if k == (kinds{}) {
		p.Add(asm.Ja.Label(otherwise))
		return
	}
	again, asked := label+" again", label+" asked"
	suffix := regAt
	contains := func(is bool, mask uint64) {
		if !is {
			return
		}
		p.Add(asm.LoadImm(asm.R1, int64(mask), asm.DWord), asm.Xor.Reg(asm.R1, regHash))
		p.contains(table, found)
	}
	p.Add(asm.Mov.Imm(suffix, 0))
	p.Label(again)
	p.Add(
		asm.JGT.Imm(suffix, 127, "undecided"), // never
		asm.Mov.Reg(asm.R1, suffix), asm.LSh.Imm(asm.R1, 3), asm.Add.Reg(asm.R1, regScratch),
		asm.LoadMem(regHash, asm.R1, atHashes, asm.DWord),
	)
	contains(k.whole, set.WholeKey(0))
	p.Add(
		asm.Add.Imm(suffix, 1),
		asm.LoadMem(asm.R1, regScratch, atCount, asm.DWord),
		asm.JGE.Reg(suffix, asm.R1, asked),
	)
	contains(k.below, set.BelowKey(0))
	p.Add(asm.Ja.Label(again))
	p.Label(asked)
	contains(k.self, set.SelfKey(0))
	p.Add(asm.Ja.Label(otherwise))
}

// contains jumps if a table has the key in R1: a binary fuse filter, as BinaryFuse.Contains of
// github.com/FastFilter/xorfilter.
func (p *program) contains(table int16, found string) {
	member := func(off uintptr) int16 { return table + int16(off) }
	hash := asm.R1
	xorShift := func(by int32) {
		p.Add(asm.Mov.Reg(asm.R2, hash), asm.RSh.Imm(asm.R2, by), asm.Xor.Reg(hash, asm.R2))
	}
	multiply := func(by uint64) { p.Add(asm.LoadImm(asm.R2, int64(by), asm.DWord), asm.Mul.Reg(hash, asm.R2)) }
	p.Add(asm.LoadMem(asm.R2, regRule, member(unsafe.Offsetof(rule{}.listed.seed)), asm.DWord), asm.Add.Reg(hash, asm.R2))
	xorShift(33)
	multiply(0xff51afd7ed558ccd)
	xorShift(33)
	multiply(0xc4ceb9fe1a85ec53)
	xorShift(33)
	p.Add(
		asm.Mov.Reg(asm.R2, hash), asm.RSh.Imm(asm.R2, 32), // the upper half
		asm.Mov.Reg32(asm.R3, hash), // the lower one
		asm.Mov.Reg(asm.R4, asm.R2), asm.Xor.Reg(asm.R4, asm.R3),
		asm.StoreMem(asm.RFP, onPrint, asm.R4, asm.DWord),
		// The upper half of hash times the number of places.
		asm.LoadMem(asm.R4, regRule, member(unsafe.Offsetof(rule{}.listed.segmentsCount)), asm.Word),
		asm.Mul.Reg(asm.R2, asm.R4),
		asm.Mul.Reg(asm.R3, asm.R4), asm.RSh.Imm(asm.R3, 32),
		asm.Add.Reg(asm.R2, asm.R3), asm.RSh.Imm(asm.R2, 32),
		asm.LoadMem(asm.R3, regRule, member(unsafe.Offsetof(rule{}.listed.segmentLength)), asm.Word),
		asm.LoadMem(asm.R4, regRule, member(unsafe.Offsetof(rule{}.listed.mask)), asm.Word),
		asm.Mov.Reg(asm.R0, asm.R2), asm.Add.Reg(asm.R0, asm.R3),
		asm.Mov.Reg(asm.R5, hash), asm.RSh.Imm(asm.R5, 18), asm.And.Reg(asm.R5, asm.R4),
		asm.Xor.Reg(asm.R5, asm.R0),
		asm.StoreMem(asm.RFP, onSecond, asm.R5, asm.DWord),
		asm.Add.Reg(asm.R0, asm.R3),
		asm.And.Reg(hash, asm.R4),
		asm.Xor.Reg(hash, asm.R0),
		asm.StoreMem(asm.RFP, onThird, hash, asm.DWord),
	)
	for _, at := range []int16{0, onSecond, onThird} {
		if at != 0 {
			p.Add(asm.LoadMem(asm.R2, asm.RFP, at, asm.DWord))
		}
		p.fingerprint(member(unsafe.Offsetof(rule{}.listed.base)))
	}
	p.Add(asm.LoadMem(asm.R1, asm.RFP, onPrint, asm.DWord), asm.JEq.Imm(asm.R1, 0, found))
}

// fingerprint takes the fingerprint at the place in R2 off the one on the stack.
func (p *program) fingerprint(base int16) {
	p.Add(
		asm.LoadMem(asm.R1, regRule, base, asm.Word), asm.Add.Reg(asm.R2, asm.R1),
		asm.Mov.Reg(asm.R3, asm.R2), asm.And.Imm(asm.R3, blockWords-1), asm.LSh.Imm(asm.R3, 2),
		asm.StoreMem(asm.RFP, onHeader, asm.R3, asm.DWord),
		asm.RSh.Imm(asm.R2, blockBits),
	)
	p.Lookup(p.fingerprints, asm.R2)
	p.Add(
		asm.JEq.Imm(asm.R0, 0, "undecided"),
		asm.LoadMem(asm.R3, asm.RFP, onHeader, asm.DWord),
		asm.Add.Reg(asm.R0, asm.R3),
		asm.LoadMem(asm.R1, asm.R0, 0, asm.Word),
		asm.LoadMem(asm.R2, asm.RFP, onPrint, asm.DWord),
		asm.Xor.Reg(asm.R1, asm.R2),
		asm.StoreMem(asm.RFP, onPrint, asm.R1, asm.DWord),
	)
}
