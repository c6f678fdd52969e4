package lookback

import "github.com/cilium/ebpf/asm"

// socket puts onto the stack what the descriptor in the first argument is. If it has to be a
// socket, or one for datagrams, the program ends if it is not.
func (a *assembler) socket(must, datagram bool) {
	done := a.Fresh("socket")
	otherwise := done
	if must {
		otherwise = "end"
	}
	a.Zero(asm.RFP, onSock, sockSize)
	a.Add(asm.LoadMem(asm.R1, asm.RFP, onTask, asm.DWord))
	a.pointer(asm.R1, asm.R1, a.taskFiles)
	a.pointer(asm.R1, asm.R1, a.filesTable)
	a.Add(a.arg(asm.R6, 0, asm.Word)...)
	a.Add(
		asm.LoadMem(asm.R2, asm.R1, int16(a.tableMost), asm.Word),
		asm.JGE.Reg(asm.R6, asm.R2, otherwise),
		asm.LSh.Imm(asm.R6, 3),
		asm.LoadMem(asm.R9, asm.R1, int16(a.tableFiles), asm.DWord),
		asm.Add.Reg(asm.R9, asm.R6),
	)
	at := a.members(a.slot, asm.R9, member{0, asm.DWord})
	a.Add(at(asm.R9, 0))
	at = a.members(a.file, asm.R9, member{a.fileInode, asm.DWord}, member{a.fileData, asm.DWord})
	a.Add(at(asm.R6, 0), at(asm.R9, 1))
	at = a.members(a.inode, asm.R6, member{a.inodeMode, asm.Half}, member{a.inodeNumber, asm.DWord})
	const kindOfFile, isSocket = 0o170000, 0o140000
	a.Add(
		at(asm.R1, 0), asm.And.Imm(asm.R1, kindOfFile), asm.JNE.Imm(asm.R1, isSocket, otherwise),
		at(asm.R1, 1), asm.StoreMem(asm.RFP, onSock+sockInode, asm.R1, asm.DWord),
	)
	at = a.members(a.layout.socket, asm.R9, member{a.socketSock, asm.DWord})
	a.Add(at(asm.R9, 0))
	at = a.members(a.sock, asm.R9, member{a.layout.sockType, asm.Half}, member{a.layout.sockProtocol, asm.Half})
	a.Add(at(asm.R1, 0))
	if datagram {
		const sockDgram = 2
		a.Add(asm.JNE.Imm(asm.R1, sockDgram, otherwise))
	}
	a.Add(
		asm.StoreMem(asm.RFP, onSock+sockType, asm.R1, asm.Half),
		at(asm.R1, 1), asm.StoreMem(asm.RFP, onSock+sockProtocol, asm.R1, asm.Half),
	)
	at = a.members(a.sock, asm.R9,
		member{a.layout.sockFamily, asm.Half}, member{a.layout.sockLocalPort, asm.Half}, member{a.layout.sockRemotePort, asm.Half},
		member{a.sockLocal4, asm.Word}, member{a.sockRemote4, asm.Word})
	for i, to := range []int16{sockFamily, sockLocalPort, sockRemotePort} {
		a.Add(at(asm.R1, i), asm.StoreMem(asm.RFP, onSock+to, asm.R1, asm.Half))
	}
	const inet, inet6 = 2, 10
	six := a.Fresh("inet6")
	a.Add(
		asm.LoadMem(asm.R1, asm.RFP, onSock+sockFamily, asm.Half),
		asm.JEq.Imm(asm.R1, inet6, six),
		asm.JNE.Imm(asm.R1, inet, otherwise),
		at(asm.R1, 3), asm.StoreMem(asm.RFP, onSock+sockLocal, asm.R1, asm.Word),
		at(asm.R1, 4), asm.StoreMem(asm.RFP, onSock+sockRemote, asm.R1, asm.Word),
		asm.Ja.Label(done),
	)
	a.Label(six)
	a.Probe(asm.RFP, onSock+sockLocal, 16, asm.R9, a.sockLocal6)
	a.Probe(asm.RFP, onSock+sockRemote, 16, asm.R9, a.sockRemote6)
	a.Label(done)
}
