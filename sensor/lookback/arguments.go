package lookback

import "github.com/cilium/ebpf/asm"

// record writes the record of a call of that form, with the memory of its arguments.
func (a *assembler) record(f form) {
	a.unless(f)
	a.reserve()
	if f == none {
		a.arguments(a.args32)
	} else {
		a.arguments(a.args)
	}
	strings := int32(a.config.Strings)
	pointer := func(n int) []asm.Instruction { return a.arg(asm.R3, n, asm.DWord) }
	length := func(n int) []asm.Instruction { return a.arg(asm.R6, n, asm.DWord) }
	short := func(n int) []asm.Instruction { return a.arg(asm.R6, n, asm.Word) }
	switch f {
	case pathFirst, start:
		a.path(0)
	case pathSecond, startAt, naming:
		a.path(1)
	case pathBoth:
		a.path(0)
		a.path(1)
	case pathsAt:
		a.path(1)
		a.path(3)
	case fork:
		a.Add(asm.LoadMem(asm.R1, asm.RFP, onResult, asm.DWord), asm.JNE.Imm(asm.R1, 0, "commit"))
		a.parent()
	case address, sendTo, write, writeVector, sendMessage, sendMessages, socketOnly, read, readMessage:
		a.copied(partSocket, onSock, sockSize)
	}
	switch f {
	case address:
		a.bytes(partAddress, addressSize, short(2), pointer(1))
	case sendTo:
		a.bytes(partData, strings, length(2), pointer(1))
		a.Add(append(a.arg(asm.R1, 4, asm.DWord), asm.JEq.Imm(asm.R1, 0, "commit"))...)
		a.bytes(partAddress, addressSize, short(5), pointer(4))
	case write:
		a.bytes(partData, strings, length(2), pointer(1))
	case read:
		a.bytes(partData, strings, onStack(asm.R6, onResult), pointer(1))
	case writeVector:
		a.Add(append(a.arg(asm.R1, 1, asm.DWord), asm.StoreMem(asm.RFP, onVectors, asm.R1, asm.DWord))...)
		a.Add(append(a.arg(asm.R1, 2, asm.DWord), asm.StoreMem(asm.RFP, onCount, asm.R1, asm.DWord))...)
		a.vectors(maxVectors)
	case sendMessage, readMessage:
		a.received = f == readMessage
		a.message(maxVectors, pointer(1)...)
		a.received = false
	case sendMessages:
		for i := range maxMessages {
			a.Add(append(a.arg(asm.R1, 2, asm.Word), asm.JLE.Imm(asm.R1, int32(i), "commit"))...)
			a.message(maxOfEach, append(pointer(1), asm.Add.Imm(asm.R3, int32(i)*messageSize))...)
		}
	}
}

// unless ends the program if the call need not be recorded, and finds out what its descriptor is.
func (a *assembler) unless(f form) {
	result := func(jump asm.JumpOp) {
		a.Add(asm.LoadMem(asm.R1, asm.RFP, onResult, asm.DWord), jump.Imm(asm.R1, 0, "end"))
	}
	switch f {
	case start, startAt:
		result(asm.JSGE) // the program that it became is recorded where it starts
	case address, sendTo, sendMessage, sendMessages:
		a.socket(false, false)
	case write, writeVector, socketOnly:
		a.socket(true, false)
	case read, readMessage:
		result(asm.JSLE)
		a.socket(true, true)
	case mapping:
		const protExec = 4
		a.Add(append(a.arg(asm.R1, 2, asm.Word), asm.And.Imm(asm.R1, protExec), asm.JEq.Imm(asm.R1, 0, "end"))...)
		a.Add(append(a.arg(asm.R1, 4, asm.Word), asm.JSLT.Imm32(asm.R1, 0, "end"))...)
	case naming:
		const prSetName = 15
		a.Add(append(a.arg(asm.R1, 0, asm.Word), asm.JNE.Imm32(asm.R1, prSetName, "end"))...)
	}
}
