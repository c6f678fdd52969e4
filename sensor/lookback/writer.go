package lookback

import "github.com/cilium/ebpf/asm"

// reserve finds room for a record in the ring of the processor, and writes the record's begin.
// Nothing else runs on the processor meanwhile that writes there: programs of tracepoints are not
// preempted, and no interrupt makes a system call.
func (a *assembler) reserve() {
	a.Add(asm.FnGetSmpProcessorId.Call(), asm.Mov.Reg(asm.R6, asm.R0))
	a.Lookup(a.cpus, asm.R6)
	a.Add(
		asm.JEq.Imm(asm.R0, 0, "end"), // a processor that came later
		asm.StoreMem(asm.RFP, onState, asm.R0, asm.DWord),
		asm.LoadMem(regAt, asm.R0, stateAt, asm.DWord),
		asm.LoadMem(regBegin, asm.R0, stateStarted, asm.DWord),
	)
	fresh, have, found := a.Fresh("segment"), a.Fresh("have"), a.Fresh("found")
	a.Add(
		asm.JGT.Imm(regAt, int32(a.segment-a.margin), fresh),
		asm.JGE.Imm(regAt, segmentHeader, have),
	)
	a.Label(fresh)
	a.Add(
		asm.Mov.Reg(asm.R1, regBegin), asm.Mod.Imm(asm.R1, int32(a.segments)),
		asm.Mul.Imm(asm.R6, int32(a.segments)), asm.Add.Reg(asm.R1, asm.R6),
		asm.StoreMem(asm.R0, stateIndex, asm.R1, asm.DWord),
		asm.Add.Imm(regBegin, 1), asm.StoreMem(asm.R0, stateStarted, regBegin, asm.DWord),
		asm.Mov.Imm(regAt, 0),
	)
	a.Label(have)
	a.Add(asm.LoadMem(asm.R6, asm.R0, stateIndex, asm.DWord))
	a.Lookup(a.data, asm.R6)
	a.Add(
		asm.JEq.Imm(asm.R0, 0, "end"),
		asm.Mov.Reg(regSegment, asm.R0),
		asm.JNE.Imm(regAt, 0, found),
		asm.Mov.Imm(regAt, segmentHeader),
		asm.StoreMem(regSegment, segmentUsed, regAt, asm.DWord),
		asm.StoreMem(regSegment, segmentOrdinal, regBegin, asm.DWord),
	)
	a.Label(found)
	a.Add(asm.Mov.Reg(regBegin, regAt))
	a.header()
}

// header writes what all records have, but for the arguments.
func (a *assembler) header() {
	a.Add(
		asm.Mov.Reg(asm.R6, regSegment), asm.Add.Reg(asm.R6, regBegin),
		asm.FnKtimeGetNs.Call(), asm.StoreMem(asm.R6, recTime, asm.R0, asm.DWord),
		asm.LoadMem(asm.R2, asm.RFP, onTask, asm.DWord),
	)
	for _, m := range []struct {
		off uint32
		to  int16
	}{{a.taskTID, recTID}, {a.taskTGID, recPID}} {
		a.Add(asm.LoadMem(asm.R1, asm.R2, int16(m.off), asm.Word), asm.StoreMem(asm.R6, m.to, asm.R1, asm.Word))
	}
	a.pointer(asm.R1, asm.R2, a.taskCred)
	a.Add(asm.LoadMem(asm.R1, asm.R1, int16(a.credUID), asm.Word), asm.StoreMem(asm.R6, recUID, asm.R1, asm.Word))
	a.pointer(asm.R1, asm.R2, a.taskLeader)
	a.Add(asm.LoadMem(asm.R1, asm.R1, int16(a.taskStart), asm.DWord), asm.StoreMem(asm.R6, recStart, asm.R1, asm.DWord))
	a.Add(asm.LoadMem(asm.R1, asm.RFP, onNumber, asm.DWord), asm.StoreMem(asm.R6, recCall, asm.R1, asm.Word))
	a.Add(asm.LoadMem(asm.R1, asm.RFP, onResult, asm.DWord), asm.StoreMem(asm.R6, recResult, asm.R1, asm.DWord))
	a.Add(asm.Add.Imm(regAt, recParts))
}

// arguments writes the arguments of the call, which are in these registers.
func (a *assembler) arguments(registers [6]uint32) {
	a.Add(
		asm.Mov.Reg(asm.R6, regSegment), asm.Add.Reg(asm.R6, regBegin),
		asm.LoadMem(asm.R2, asm.RFP, onRegs, asm.DWord),
	)
	for i, off := range registers {
		a.Add(asm.LoadMem(asm.R1, asm.R2, int16(off), asm.DWord), asm.StoreMem(asm.R6, recArgs+8*int16(i), asm.R1, asm.DWord))
	}
}

// commit makes the record one that can be read, and ends the program.
func (a *assembler) commit() {
	a.Label("commit")
	a.Add(
		asm.Mov.Reg(asm.R1, regSegment), asm.Add.Reg(asm.R1, regBegin),
		asm.Mov.Reg(asm.R2, regAt), asm.Sub.Reg(asm.R2, regBegin),
		asm.StoreMem(asm.R1, recSize, asm.R2, asm.Word),
		asm.StoreMem(regSegment, segmentUsed, regAt, asm.DWord),
		asm.LoadMem(asm.R1, asm.RFP, onState, asm.DWord),
		asm.StoreMem(asm.R1, stateAt, regAt, asm.DWord),
		asm.LoadMem(asm.R2, asm.R1, stateRecords, asm.DWord), asm.Add.Imm(asm.R2, 1),
		asm.StoreMem(asm.R1, stateRecords, asm.R2, asm.DWord),
	)
}

// part begins a part of at most that many bytes. R6 holds its address. The check is for the
// verifier: reserve found room for all parts.
func (a *assembler) part(kind, most int32) {
	a.Add(
		asm.JGT.Imm(regAt, int32(a.segment)-partBytes-roundUp(most), "commit"),
		asm.Mov.Reg(asm.R6, regSegment), asm.Add.Reg(asm.R6, regAt),
		asm.StoreImm(asm.R6, partKind, int64(kind), asm.Word),
	)
}

// grow ends a part whose length is in a register, as far as its lowest bits can count.
func (a *assembler) grow(length asm.Register, most int32) {
	a.Add(
		asm.Add.Imm(length, 7), asm.And.Imm(length, roundUp(most)-8),
		asm.Add.Reg(regAt, length), asm.Add.Imm(regAt, partBytes),
	)
}

// roundUp returns twice the next power of two.
func roundUp(n int32) int32 {
	p := int32(16)
	for p <= n+7 {
		p *= 2
	}
	return p
}

// str adds a string, whose address load puts into R3, by a helper that reads one.
func (a *assembler) str(read asm.BuiltinFunc, load ...asm.Instruction) {
	most := int32(a.config.Strings) + stringEnd
	a.part(partString, most)
	a.Zero(asm.R6, partWhole, 8)
	a.Add(asm.Mov.Reg(asm.R1, asm.R6), asm.Add.Imm(asm.R1, partBytes), asm.Mov.Imm(asm.R2, most))
	a.Add(load...)
	a.Add(
		read.Call(),
		asm.StoreMem(asm.R6, partLength, asm.R0, asm.Word),
		// An error becomes 0, without a branch that the verifier would have to follow.
		asm.Mov.Reg(asm.R1, asm.R0), asm.ArSh.Imm(asm.R1, 63), asm.Xor.Imm(asm.R1, -1), asm.And.Reg(asm.R0, asm.R1),
	)
	a.grow(asm.R0, most)
}

// path adds a string of the program, whose address is an argument of the call.
func (a *assembler) path(arg int) { a.str(asm.FnProbeReadUserStr, a.arg(asm.R3, arg, asm.DWord)...) }

// bytes adds memory of the program, whose length is loaded into R6 and its address into R3.
func (a *assembler) bytes(kind, most int32, length, address []asm.Instruction) {
	a.part(kind, most)
	ok, long := a.Fresh("fits"), a.Fresh("long")
	a.Add(asm.Mov.Reg(asm.R5, asm.R6))
	a.Add(length...)
	a.Add(asm.StoreMem(asm.R5, partWhole, asm.R6, asm.DWord))
	if a.received && kind == partData { // the rest of the buffer need not be in memory
		whole := a.Fresh("whole")
		a.Add(
			asm.LoadMem(asm.R1, asm.RFP, onResult, asm.DWord), asm.JGE.Reg(asm.R1, asm.R6, whole),
			asm.Mov.Reg(asm.R6, asm.R1),
		)
		a.Label(whole)
	}
	a.Add(asm.JGT.Imm(asm.R6, most, long))
	a.Label(ok)
	a.Later(func() {
		a.Label(long)
		a.Add(asm.Mov.Imm(asm.R6, most), asm.Ja.Label(ok))
	})
	a.Add(asm.Mov.Reg(asm.R1, asm.R5), asm.Add.Imm(asm.R1, partBytes), asm.Mov.Reg(asm.R2, asm.R6))
	a.Add(address...)
	a.Add(
		asm.FnProbeReadUser.Call(),
		asm.Mov.Reg(asm.R1, asm.R0), asm.ArSh.Imm(asm.R1, 63), // all bits if it failed
		asm.And.Reg(asm.R0, asm.R1),
		asm.Xor.Imm(asm.R1, -1), asm.And.Reg(asm.R6, asm.R1),
		asm.Or.Reg(asm.R0, asm.R6), // the length, or the error
		asm.Mov.Reg(asm.R1, regSegment), asm.Add.Reg(asm.R1, regAt),
		asm.StoreMem(asm.R1, partLength, asm.R0, asm.Word),
	)
	a.grow(asm.R6, most)
}

// copied adds what is on the stack.
func (a *assembler) copied(kind int32, from, size int16) {
	a.part(kind, int32(size))
	a.Add(asm.StoreImm(asm.R6, partLength, int64(size), asm.Word))
	for at := int16(0); at < size; at += 8 {
		a.Add(asm.LoadMem(asm.R1, asm.RFP, from+at, asm.DWord), asm.StoreMem(asm.R6, partBytes+at, asm.R1, asm.DWord))
	}
	a.Add(asm.Add.Imm(regAt, partBytes+int32(size)))
}

// parent adds who the parent is.
func (a *assembler) parent() {
	a.Zero(asm.RFP, onVector, vectorSize)
	a.Add(asm.LoadMem(asm.R1, asm.RFP, onTask, asm.DWord))
	a.pointer(asm.R1, asm.R1, a.taskParent)
	a.Add(asm.LoadMem(asm.R2, asm.R1, int16(a.taskTGID), asm.Word), asm.StoreMem(asm.RFP, onVector, asm.R2, asm.Word))
	a.pointer(asm.R1, asm.R1, a.taskLeader)
	a.Add(asm.LoadMem(asm.R2, asm.R1, int16(a.taskStart), asm.DWord), asm.StoreMem(asm.RFP, onVector+8, asm.R2, asm.DWord))
	a.copied(partParent, onVector, vectorSize)
}

// vectors adds the bytes of an array of struct iovec, which is at onVectors and onCount.
func (a *assembler) vectors(most int) {
	done := a.Fresh("vectors")
	for i := range most {
		a.Add(
			asm.LoadMem(asm.R1, asm.RFP, onCount, asm.DWord), asm.JLE.Imm(asm.R1, int32(i), done),
			asm.Mov.Reg(asm.R1, asm.RFP), asm.Add.Imm(asm.R1, onVector), asm.Mov.Imm(asm.R2, vectorSize),
			asm.LoadMem(asm.R3, asm.RFP, onVectors, asm.DWord), asm.Add.Imm(asm.R3, int32(i)*vectorSize),
			asm.FnProbeReadUser.Call(), // zeros if it fails
		)
		a.bytes(partData, int32(a.config.Strings), onStack(asm.R6, onVector+8), onStack(asm.R3, onVector))
	}
	a.Add(asm.LoadMem(asm.R1, asm.RFP, onCount, asm.DWord), asm.JLE.Imm(asm.R1, int32(most), done))
	a.part(partMore, 8)
	a.Add(asm.StoreImm(asm.R6, partLength, 0, asm.Word), asm.Add.Imm(regAt, partBytes))
	a.Label(done)
}

// message adds a struct msghdr, whose address load puts into R3, with its address and bytes.
func (a *assembler) message(vectors int, load ...asm.Instruction) {
	unnamed := a.Fresh("unnamed")
	a.Add(asm.Mov.Reg(asm.R1, asm.RFP), asm.Add.Imm(asm.R1, onHeader), asm.Mov.Imm(asm.R2, headerSize))
	a.Add(load...)
	a.Add(asm.FnProbeReadUser.Call()) // zeros if it fails
	a.copied(partHeader, onHeader, headerSize)
	a.Add(
		asm.LoadMem(asm.R1, asm.RFP, onHeader+16, asm.DWord), asm.StoreMem(asm.RFP, onVectors, asm.R1, asm.DWord),
		asm.LoadMem(asm.R1, asm.RFP, onHeader+24, asm.DWord), asm.StoreMem(asm.RFP, onCount, asm.R1, asm.DWord),
		asm.LoadMem(asm.R1, asm.RFP, onHeader, asm.DWord), asm.JEq.Imm(asm.R1, 0, unnamed),
	)
	a.bytes(partAddress, addressSize, []asm.Instruction{asm.LoadMem(asm.R6, asm.RFP, onHeader+8, asm.Word)}, onStack(asm.R3, onHeader))
	a.Label(unnamed)
	a.vectors(vectors)
}
