package sensor

import (
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"culprit/internal/bpfasm"
)

// The programs share one body: look, which fills a record about whoever runs, and stop, which
// stops that process if all allows it. What comes before is the way's own: it finds out whether
// this is a packet of ours, and where its bytes are.
//
// Registers, all through: R6 holds the address of the bytes, R7 the record, R8 the task.
const (
	regBytes  = asm.R6
	regRecord = asm.R7
	regTask   = asm.R8
)

// Places on the stack, below those of [bpfasm].
const (
	onStackVal = -48 // a value of a map, up to 32 bytes
	onStackUns = -56 // not 0: the packet may not be meant
	onStackRul = -112
	onStackRec = -216 // a record up to its key
)

// assembler puts a program together.
type assembler struct {
	*layout
	maps *maps
	// disabled is how often softirqs are disabled where the program runs, if a process sends a
	// packet of its own.
	disabled int32
	// asksTask says that the kernel gives the program no helpers that tell who runs: before Linux 6.16 only those
	// on tracepoints have them (bpf_base_func_proto in kernel/bpf/helpers.c).
	asksTask bool
	bpfasm.Assembler
}

// look reserves a record about a packet that NFLOG logs, and notes who runs.
func (a *assembler) look() { a.lookInto(a.maps.sends, a.maps.lost, recSize, func() {}) }

// lookInto reserves a record in a ring and notes who runs. Without room it counts the loss, as full does, too, and ends.
func (a *assembler) lookInto(ring, lost *ebpf.Map, size int32, full func()) {
	a.Add(
		asm.LoadMapPtr(asm.R1, ring.FD()),
		asm.Mov.Imm(asm.R2, size),
		asm.Mov.Imm(asm.R3, 0),
		asm.FnRingbufReserve.Call(),
		asm.JNE.Imm(asm.R0, 0, "reserved"),
	)
	full()
	a.Count(lost)
	a.Add(asm.Ja.Label("end"))
	a.Label("reserved")
	a.Add(asm.Mov.Reg(regRecord, asm.R0))
	a.who()
	a.context()
	a.Follow(asm.R9, regTask, a.taskMM)
	a.Probe(regRecord, recStack, 8, asm.R9, a.mmStack)
	a.Probe(regRecord, recCode, 8, asm.R9, a.mmCode)
}

// who notes in the record who runs.
func (a *assembler) who() {
	a.Zero(regRecord, 0, recKey)
	a.Add(
		asm.FnKtimeGetNs.Call(), asm.StoreMem(regRecord, recTime, asm.R0, asm.DWord),
		asm.FnGetCurrentTaskBtf.Call(), asm.Mov.Reg(regTask, asm.R0),
	)
	if a.asksTask {
		a.namesOfTask()
	} else {
		a.Add(
			asm.FnGetCurrentPidTgid.Call(), asm.StoreMem(regRecord, recPIDs, asm.R0, asm.DWord),
			asm.FnGetCurrentCgroupId.Call(), asm.StoreMem(regRecord, recCgroup, asm.R0, asm.DWord),
			asm.Mov.Reg(asm.R1, regRecord), asm.Add.Imm(asm.R1, recComm), asm.Mov.Imm(asm.R2, 16),
			asm.FnGetCurrentComm.Call(),
		)
	}
	a.Add(asm.Mov.Reg(asm.R1, regTask), asm.FnTaskPtRegs.Call(), asm.Mov.Reg(asm.R9, asm.R0))
	a.Probe(regRecord, recCall, 8, asm.R9, a.call)
	a.Probe(regRecord, recFlags, 4, regTask, a.taskFlags)
	a.Probe(regRecord, recPtrace, 4, regTask, a.taskPtrace)
	if a.compat >= 0 {
		a.Probe(regRecord, recCompat, 4, regTask, uint32(a.compat))
	}
	a.Follow(asm.R9, regTask, a.taskLeader)
	a.Probe(regRecord, recStart, 8, asm.R9, a.taskStart)
	a.Follow(asm.R9, asm.R9, a.taskPtrace) // of the leader: strace may trace it alone
	a.Add(
		asm.LoadMem(asm.R1, regRecord, recPtrace, asm.Word),
		asm.Or.Reg(asm.R1, asm.R9),
		asm.StoreMem(regRecord, recPtrace, asm.R1, asm.Word),
	)
	a.Follow(asm.R9, regTask, a.taskCred)
	a.Probe(regRecord, recUID, 4, asm.R9, a.credUID)
	a.Probe(regRecord, recEUID, 4, asm.R9, a.credEUID)
}

// namesOfTask notes what other programs have helpers for.
func (a *assembler) namesOfTask() {
	a.Probe(regRecord, recPIDs, 4, regTask, a.taskPID)
	a.Probe(regRecord, recPIDs+4, 4, regTask, a.taskTGID)
	a.Probe(regRecord, recComm, 16, regTask, a.taskComm)
	a.Follow(asm.R9, regTask, a.taskCgroups)
	a.Follow(asm.R9, asm.R9, a.cgroupsV2)
	a.Follow(asm.R9, asm.R9, a.cgroupNode)
	a.Probe(regRecord, recCgroup, 8, asm.R9, a.nodeID)
}

// context notes whether a process may be sending for somebody else: in an interrupt, or with
// softirqs disabled more often than for a packet of its own. Then it takes in packets, as it does when
// it writes to a TUN device or polls a network card, and the kernel may answer with what another's
// TCP connection has left to send; or it transmits what waits in a queue.
func (a *assembler) context() {
	if a.preempt.perCPU {
		a.Follow(asm.R9, regTask, a.preempt.taskQueue)
		a.Follow(asm.R9, asm.R9, a.preempt.queueOfQueue)
		a.Probe(regRecord, recContext, 4, asm.R9, a.preempt.offset)
	} else {
		a.Probe(regRecord, recContext, 4, regTask, a.preempt.offset)
	}
	a.Add(asm.LoadMem(asm.R9, regRecord, recContext, asm.Word), asm.StoreMem(asm.RFP, bpfasm.OnKey, asm.R9, asm.DWord))
	if a.softirqs >= 0 {
		a.Follow(asm.R9, regTask, uint32(a.softirqs)) // and the 4 bytes after it
		a.Add(
			asm.LoadMem(asm.R1, asm.RFP, bpfasm.OnKey, asm.DWord),
			asm.Or.Reg(asm.R9, asm.R1),
			asm.StoreMem(asm.RFP, bpfasm.OnKey, asm.R9, asm.DWord),
		)
	}
	a.Add(
		asm.LoadMem(asm.R9, asm.RFP, bpfasm.OnKey, asm.DWord),
		asm.And.Imm(asm.R9, softirqs|interrupts),
		asm.JGT.Imm(asm.R9, a.disabled*softirqDisabled, "not own"),
		asm.Mov.Imm(asm.R9, 0),
	)
	a.Label("not own")
	a.Add(asm.StoreMem(regRecord, recContext, asm.R9, asm.Word))
}

// copyKey copies length bytes, a register or at most keySize, from the address in R6 into the record.
func (a *assembler) copyKey(length asm.Register) {
	a.Add(
		asm.StoreMem(regRecord, recKeyLen, length, asm.Word),
		asm.Mov.Reg(asm.R2, length),
		asm.Mov.Reg(asm.R1, regRecord), asm.Add.Imm(asm.R1, recKey),
		asm.Mov.Reg(asm.R3, regBytes),
		asm.FnProbeReadKernel.Call(),
	)
}

// submit hands the record over, and wakes nobody: the packet does that.
func (a *assembler) submit() {
	const noWakeup = 1 // BPF_RB_NO_WAKEUP
	a.submitWith(noWakeup)
}

// submitWith hands the record over, with the flags of bpf_ringbuf_submit (man 7 bpf-helpers).
func (a *assembler) submitWith(flags int32) {
	a.Add(asm.Mov.Reg(asm.R1, regRecord), asm.Mov.Imm(asm.R2, flags), asm.FnRingbufSubmit.Call())
}
