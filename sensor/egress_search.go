package sensor

import (
	"github.com/cilium/ebpf/asm"

	"culprit/sensor/automaton"
)

// How the program for other network namespaces searches a packet for all patterns at once.

// search goes on if the packet has the pattern of a want that may have it, jumps to "report" if there
// is another want for it, and ends otherwise.
func (a *egressProgram) search() {
	length := a.Fresh("length")
	a.Add( // the packet's end, or that of the search
		asm.LoadMem(asm.R1, asm.R6, 0, asm.Word), // __sk_buff.len
		asm.JLE.Imm(asm.R1, int32(min(a.snaplen, maxSearch)), length),
		asm.Mov.Imm(asm.R1, int32(min(a.snaplen, maxSearch))),
	)
	a.Label(length)
	a.Add(asm.StoreMem(asm.RFP, onStackEnd, asm.R1, asm.DWord))
	// The verifier would go through the search for each way in which the headers can be. What comes from
	// memory that it does not follow is the same to it.
	for _, at := range []int32{onStackFrom, onStackEnd} {
		a.Probe(asm.RFP, at, 8, asm.RFP, uint32(at))
	}
	for _, s := range a.table.Searches {
		a.searchBy(s)
	}
	if a.listed != 0 {
		a.askLists()
	}
	if a.anyOf != 0 {
		a.Add(
			asm.LoadMem(asm.R1, asm.RFP, onStackMask, asm.DWord),
			asm.LoadImm(asm.R2, int64(a.anyOf), asm.DWord),
			asm.And.Reg(asm.R1, asm.R2), asm.JNE.Imm(asm.R1, 0, "report"),
		)
	}
	a.Add(asm.Ja.Label("end"))
	if a.listed != 0 {
		a.Label("undecided")
		a.Add(asm.Mov.Imm(asm.R1, notDecided), asm.StoreMem(asm.RFP, onStackStop, asm.R1, asm.DWord), asm.Ja.Label("report"))
	}
	if a.listed != 0 || len(a.table.Searches) > 0 {
		a.Label("found")
		a.Add(asm.Mov.Imm(asm.R1, stopIt), asm.StoreMem(asm.RFP, onStackStop, asm.R1, asm.DWord))
	}
}

// askLists jumps to "found" if a list may mean the question, or to "undecided" if that is not known.
func (a *egressProgram) askLists() {
	none := a.Fresh("not listed")
	a.Add(
		asm.LoadMem(asm.R2, asm.RFP, onStackMask, asm.DWord),
		asm.LoadImm(asm.R1, int64(a.listed), asm.DWord),
		asm.And.Reg(asm.R2, asm.R1), asm.JEq.Imm(asm.R2, 0, none),
		asm.Mov.Reg(asm.R1, asm.R6), asm.Call.Label(a.lists),
		asm.Mov.Reg(asm.R1, asm.R0), asm.And.Imm(asm.R1, mayBeListed), asm.JNE.Imm(asm.R1, 0, "found"),
		asm.And.Imm(asm.R0, notDecidable), asm.JNE.Imm(asm.R0, 0, "undecided"),
	)
	a.Label(none)
}

// searchBy jumps to "found" if one of the automata finds a pattern. R9 is the offset of what comes next in
// the packet, R8 the row, R7 the table.
//
// The verifier goes through each turn of a loop. It looks at what comes after a jump before it jumps, and
// keeps no more than 8,192 jumps for later: so what ends a loop comes after the jump that goes on with it. It
// must not see a difference between the sizes of pieces: so all have the same but the last.
func (a *egressProgram) searchBy(s automaton.Search) {
	piece, last, done := a.Fresh("piece"), a.Fresh("last piece"), a.Fresh("searched")
	load := func(size func()) {
		a.Add(asm.Mov.Reg(asm.R1, asm.R6), asm.Mov.Reg(asm.R2, asm.R9), asm.Mov.Reg(asm.R3, asm.RFP), asm.Add.Imm(asm.R3, onStackBytes))
		size()
		a.Add(asm.FnSkbLoadBytes.Call(), asm.JNE.Imm(asm.R0, 0, "end"))
	}
	a.Add(
		asm.LoadMapValue(asm.R7, a.rows.FD(), 0),
		asm.Mov.Imm(asm.R8, int32(s.Start)),
		asm.LoadMem(asm.R9, asm.RFP, onStackFrom, asm.DWord),
	)
	a.Zero(asm.RFP, onStackPiece, 8)
	a.Label(piece)
	a.Add(
		asm.LoadMem(asm.R1, asm.RFP, onStackPiece, asm.DWord), asm.JGE.Imm(asm.R1, maxSearch/searchStep, done),
		asm.Add.Imm(asm.R1, 1), asm.StoreMem(asm.RFP, onStackPiece, asm.R1, asm.DWord),
		asm.And.Imm(asm.R9, 2*maxSearch-1), // it is less
		asm.Mov.Reg(asm.R2, asm.R9), asm.Add.Imm(asm.R2, searchStep),
		asm.LoadMem(asm.R1, asm.RFP, onStackEnd, asm.DWord), asm.JGT.Reg(asm.R2, asm.R1, last),
	)
	load(func() { a.Add(asm.Mov.Imm(asm.R4, searchStep)) })
	a.Add(asm.Add.Imm(asm.R9, searchStep), asm.Mov.Imm(asm.R4, searchStep))
	a.bytes(s, piece)

	a.Label(last)
	a.Add(
		asm.LoadMem(asm.R4, asm.RFP, onStackEnd, asm.DWord), asm.JGE.Reg(asm.R9, asm.R4, done),
		asm.Sub.Reg(asm.R4, asm.R9),
		asm.JLT.Imm(asm.R4, 1, done), asm.JGT.Imm(asm.R4, searchStep, done), // neither can be
		asm.StoreMem(asm.RFP, onStackSize, asm.R4, asm.DWord),
	)
	load(func() {})
	a.Add(asm.LoadMem(asm.R4, asm.RFP, onStackSize, asm.DWord))
	a.bytes(s, done)
	a.Label(done)
}

// bytes goes through the R4 bytes on the stack, and then jumps. R0 is the index of the byte, R3 which wants may
// have the packet.
func (a *egressProgram) bytes(s automaton.Search, then string) {
	next, more, inTable := a.Fresh("byte"), a.Fresh("more"), a.Fresh("in table")
	a.Add(asm.Mov.Imm(asm.R0, 0), asm.LoadMem(asm.R3, asm.RFP, onStackMask, asm.DWord))
	a.Label(next)
	a.Add(asm.JLT.Reg(asm.R0, asm.R4, more), asm.Ja.Label(then))
	a.Label(more)
	a.Add(
		asm.Mov.Reg(asm.R1, asm.RFP), asm.Add.Reg(asm.R1, asm.R0), asm.LoadMem(asm.R1, asm.R1, onStackBytes, asm.Byte),
		asm.Add.Imm(asm.R0, 1),
		asm.Mov.Reg(asm.R2, asm.R7), asm.Add.Imm(asm.R2, int32(s.Classes)), asm.Add.Reg(asm.R2, asm.R1), asm.LoadMem(asm.R2, asm.R2, 0, asm.Byte),
		asm.LSh.Imm(asm.R2, 2), asm.Add.Reg(asm.R2, asm.R8), asm.Add.Reg(asm.R2, asm.R7),
		asm.LoadMem(asm.R8, asm.R2, automaton.RowHead, asm.Word),
		asm.JLE.Imm(asm.R8, int32(a.table.Last()), inTable), // always
		asm.Ja.Label("end"),
	)
	a.Label(inTable)
	a.Add(
		asm.Mov.Reg(asm.R1, asm.R7), asm.Add.Reg(asm.R1, asm.R8), asm.LoadMem(asm.R1, asm.R1, 0, asm.DWord),
		asm.And.Reg(asm.R1, asm.R3), asm.JEq.Imm(asm.R1, 0, next),
		asm.Ja.Label("found"),
	)
}
