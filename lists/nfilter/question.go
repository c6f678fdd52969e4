package nfilter

import (
	"unsafe"

	"github.com/cilium/ebpf/asm"
)

// A plain packet is one query of one question, as resolvers send it, and nothing else. Only these are decided: the name has no
// pointer, there is no record but one OPT of EDNS (RFC 6891), and no query can stand within it at another place. That matters as one
// system call may send many datagrams that pass OUTPUT as one packet (UDP_SEGMENT, man 7 udp): a program could hide a second
// query in what looks like part of the first. So the trigger looks for queries everywhere (anywhere in trigger/rule.go).
//
// Such a query has the bytes 0 1 0 0 (one question, no answer) at p, and its name at p+8, followed by a zero, type and class. With r
// as the place of the question's final zero, 0 1 0 0 cannot be
//
//	before r     the name has no zero within, and the counts in the header are 1 0 0 and 0 or 1
//	at r         the type is not 256
//	r+1, r+2     the class is 1
//	r+4 to r+7   these are 1, 0, 0, 41
//	r+8, r+9     the size that OPT tells is 256 or more, and the rest of the code 0
//	r+10 to r+15 version and flags are 0, but for the flag DO; the length is below 256, and what is left for a name too short
//
// and at r+3, where it is with each OPT, the name would be empty: the version is 0. What follows is searched for these bytes if it is
// long enough for a name.

// Of an OPT record, and of what must follow in a hidden query.
const (
	optSize    = 11
	longEnough = 8 + 2 + 1 + 4
)

// question goes through the query at regAt. Then regAt is the place of the name's final zero, and R3 that of its last label.
func (p *program) question() {
	const (
		one     = 1
		in      = 1
		private = 256
	)
	p.Add(
		asm.And.Imm(regAt, placeMask),
		asm.Mov.Reg(asm.R2, regScratch), asm.Add.Reg(asm.R2, regAt),
		asm.LoadMem(asm.R1, asm.R2, 2, asm.Byte),
		asm.And.Imm(asm.R1, 0xf8), // it is an answer, or not of opcode 0
		asm.JNE.Imm(asm.R1, 0, "undecided"),
		asm.LoadMem(asm.R1, asm.R2, 4, asm.Half),
		asm.JNE.Imm(asm.R1, be16(one), "undecided"),
		asm.LoadMem(asm.R1, asm.R2, 6, asm.Word),
		asm.JNE.Imm(asm.R1, 0, "undecided"),
		asm.LoadMem(asm.R4, asm.R2, 10, asm.Half), // additional records
		asm.LoadMem(asm.R2, regScratch, atLen, asm.DWord),
		asm.Add.Imm(regAt, 12),
		asm.StoreMem(regScratch, atName, regAt, asm.DWord),
		asm.Mov.Imm(asm.R3, 0),
		asm.Mov.Imm(asm.R5, 0),
	)
	p.Label("label")
	p.Add(
		asm.JGE.Reg(regAt, asm.R2, "undecided"),
		asm.And.Imm(regAt, placeMask),
		asm.Mov.Reg(asm.R1, regScratch), asm.Add.Reg(asm.R1, regAt),
		asm.LoadMem(asm.R0, asm.R1, 0, asm.Byte),
		asm.JEq.Imm(asm.R0, 0, "root"),
		asm.JGT.Imm(asm.R0, 63, "undecided"),
		asm.Add.Reg(asm.R1, regAt), // two bytes for each place
		asm.StoreMem(asm.R1, atPrevious, asm.R3, asm.Half),
		asm.Mov.Reg(asm.R3, regAt),
		asm.Add.Reg(regAt, asm.R0), asm.Add.Imm(regAt, 1),
		asm.Add.Imm(asm.R5, 1),
		asm.JLE.Imm(asm.R5, 127, "label"),
		asm.Ja.Label("undecided"),
	)
	p.Label("root")
	p.forget(regAt, asm.R3)
	p.Add(
		asm.And.Imm(regAt, placeMask), asm.And.Imm(asm.R3, placeMask),
		asm.LoadMem(asm.R0, regScratch, atName, asm.DWord),
		asm.Mov.Reg(asm.R1, regAt), asm.Sub.Reg(asm.R1, asm.R0),
		asm.JEq.Imm(asm.R1, 0, "undecided"),
		asm.JGT.Imm(asm.R1, 254, "undecided"),
		asm.Mov.Reg(asm.R5, regAt), asm.Add.Imm(asm.R5, 1+4),
		asm.JGT.Reg(asm.R5, asm.R2, "undecided"),
		asm.Mov.Reg(asm.R1, regScratch), asm.Add.Reg(asm.R1, regAt),
		asm.LoadMem(asm.R0, asm.R1, 1, asm.Half),
		asm.JEq.Imm(asm.R0, be16(private), "undecided"),
		asm.LoadMem(asm.R0, asm.R1, 3, asm.Half),
		asm.JNE.Imm(asm.R0, be16(in), "undecided"),
		asm.JEq.Imm(asm.R4, be16(one), "EDNS"),
		asm.JNE.Imm(asm.R4, 0, "undecided"),
		asm.JNE.Reg(asm.R5, asm.R2, "undecided"),
		asm.Ja.Label("plain"),
	)
	p.edns()
	p.Label("plain")
}

// edns goes on only if an OPT record is all that is left. R1 is the address of the name's final zero, R5 where the record begins, R2
// where the packet ends.
func (p *program) edns() {
	const at = 1 + 4 // from R1
	p.Label("EDNS")
	p.Add(
		asm.Add.Imm(asm.R5, optSize),
		asm.JGT.Reg(asm.R5, asm.R2, "undecided"),
		asm.LoadMem(asm.R0, asm.R1, at, asm.Byte), // of the root
		asm.JNE.Imm(asm.R0, 0, "undecided"),
		asm.LoadMem(asm.R0, asm.R1, at+1, asm.Half),
		asm.JNE.Imm(asm.R0, be16(41), "undecided"),
		asm.LoadMem(asm.R0, asm.R1, at+3, asm.Byte), // size
		asm.JEq.Imm(asm.R0, 0, "undecided"),
		asm.LoadMem(asm.R0, asm.R1, at+5, asm.Half), // code, version
		asm.JNE.Imm(asm.R0, 0, "undecided"),
		asm.LoadMem(asm.R0, asm.R1, at+7, asm.Half), // flags
		asm.And.Imm(asm.R0, ^be16(0x8000)&0xffff),
		asm.JNE.Imm(asm.R0, 0, "undecided"),
		asm.LoadMem(asm.R0, asm.R1, at+9, asm.Half), asm.HostTo(asm.BE, asm.R0, asm.Half),
		asm.JGT.Imm(asm.R0, 255, "undecided"),
		asm.Mov.Reg(asm.R4, asm.R5), asm.Add.Reg(asm.R4, asm.R0),
		asm.JNE.Reg(asm.R4, asm.R2, "undecided"),
		asm.JLT.Imm(asm.R0, longEnough, "plain"),
		asm.Mov.Imm(asm.R4, -1), // the last four bytes
		asm.Mov.Imm(asm.R0, 0),
	)
	p.Label("option")
	p.Add(
		asm.And.Imm(asm.R5, placeMask),
		asm.Mov.Reg(asm.R1, regScratch), asm.Add.Reg(asm.R1, asm.R5),
		asm.LoadMem(asm.R1, asm.R1, 0, asm.Byte),
		asm.LSh.Imm(asm.R4, 8), asm.Or.Reg(asm.R4, asm.R1),
		asm.Mov.Reg32(asm.R1, asm.R4),
		asm.JEq.Imm(asm.R1, 0x00010000, "undecided"),
		asm.Add.Imm(asm.R5, 1),
		asm.JGE.Reg(asm.R5, asm.R2, "plain"),
		asm.Add.Imm(asm.R0, 1),
		asm.JLT.Imm(asm.R0, 255, "option"),
		asm.Ja.Label("undecided"),
	)
}

// hash puts the hashes of the name's suffixes into the scratch (see [set.Hash]). Its loop has no ways that part and meet again, which
// the verifier would all follow: what is only so at the beginning of a label is calculated.
func (p *program) hash() {
	const prime = 0x100000001b3
	h, c, i, start, labels, bytes := asm.R0, asm.R1, regAt, asm.R3, asm.R4, asm.R2
	place := func(to, index asm.Register, shift int32) {
		p.Add(asm.Mov.Reg(to, index), asm.LSh.Imm(to, shift), asm.Add.Reg(to, regScratch))
	}
	p.Add(
		asm.LoadMem(h, regRule, int16(unsafe.Offsetof(rule{}.seed)), asm.DWord),
		asm.Mov.Imm(labels, 0),
		asm.Mov.Imm(bytes, 0),
		asm.Sub.Imm(i, 1), asm.And.Imm(i, placeMask),
	)
	p.forget(labels)
	p.Label("byte")
	place(c, i, 0)
	p.Add(
		asm.LoadMem(c, c, 0, asm.Byte),
		asm.JEq.Imm(c, 0, "undecided"),
		// To lower case: of c-'A' and c-'Z'-1 one is negative only if c is between. A length is 63 at most.
		asm.Mov.Reg(asm.R6, c), asm.Sub.Imm(asm.R6, 'A'),
		asm.Mov.Reg(asm.R5, c), asm.Sub.Imm(asm.R5, 'Z'+1),
		asm.Xor.Reg(asm.R6, asm.R5), asm.RSh.Imm(asm.R6, 63), asm.LSh.Imm(asm.R6, 5),
		asm.Or.Reg(c, asm.R6),
		asm.LoadImm(asm.R5, prime, asm.DWord),
		asm.Xor.Reg(h, c), asm.Mul.Reg(h, asm.R5),
		asm.And.Imm(labels, 127),
	)
	place(asm.R5, labels, 3)
	p.Add(
		asm.StoreMem(asm.R5, atHashes, h, asm.DWord),                                                        // the last one counts
		asm.Mov.Reg(asm.R6, i), asm.Xor.Reg(asm.R6, start), asm.Sub.Imm(asm.R6, 1), asm.RSh.Imm(asm.R6, 63), // 1: a label begins
		asm.Add.Reg(labels, asm.R6), asm.And.Imm(labels, 0xff),
		asm.LoadMem(c, regScratch, atName, asm.DWord),
		asm.JEq.Reg(i, c, "hashed"),
	)
	place(c, i, 1)
	p.Add(
		asm.LoadMem(c, c, atPrevious, asm.Half),
		asm.Sub.Reg(c, start), asm.Mul.Reg(c, asm.R6), asm.Add.Reg(start, c),
		asm.And.Imm(start, placeMask),
		asm.Sub.Imm(i, 1), asm.And.Imm(i, placeMask),
		asm.Add.Imm(bytes, 1),
		asm.JLT.Imm(bytes, 254, "byte"),
		asm.Ja.Label("undecided"), // never
	)
	p.Label("hashed")
	p.Add(asm.StoreMem(regScratch, atCount, labels, asm.DWord))
}
