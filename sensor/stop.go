package sensor

import (
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"culprit/internal/bpfasm"
)

// sigstop is SIGSTOP on every architecture that we know.
const sigstop = 19

// again is how long a process that was stopped once is not stopped again, in nanoseconds.
const again = 60_000_000_000

// A stop tells the keeper of the stopped processes about one. It is also what the map of the
// stopped processes holds, by PID.
const (
	stopNumber = 0  // u64
	stopStart  = 8  // u64: start of the process since boot, in nanoseconds
	stopTime   = 16 // u64: CLOCK_MONOTONIC, in nanoseconds
	stopPID    = 24 // u32
	stopUID    = 28 // u32: real
	stopSize   = 32

	startCgroup = stopSize        // u64, of a program that is held at its start
	startSize   = startCgroup + 8 // what its ring has
)

// The number of a hold has its PID in the low bits (PID_MAX_LIMIT in include/linux/threads.h), its
// time above, and then why the process was stopped. So no two are equal, unless a process becomes
// one program after the other within a millisecond.
const (
	holdPIDBits = 22
	holdPID     = 1<<holdPIDBits - 1
	holdByBit   = 61
	holdBy      = 3
	holdBit     = 1 << 63
)

// Why a process was stopped.
const (
	holdByPacket = iota // it sent a packet
	holdByExec          // it became a program
	holdByFork          // it was forked
	holdByUID           // it became the user
)

// A process has an entry in the map of the stopped for each of these: one that was held at its start is still on it for a moment when it
// goes on, see [held.resume], and may send its packet by then.
var entries = [...]uint64{holdByPacket, holdByExec, holdByFork, holdByUID}

// keyOf is the key of a hold in the map of the stopped, as the program has it.
func keyOf(number uint64) uint32 { return entryOf(number>>holdByBit&holdBy, uint32(number&holdPID)) }

func entryOf(by uint64, pid uint32) uint32 { return pid | uint32(by)<<holdPIDBits }

// Why a process was not stopped; 0: it was.
const (
	notInContext = 1 + iota // somebody else may have been running
	notTraced               // a tracer is on it already
	notSpared               // PID 1, one of ours, or a user who is spared
	notLeased               // the daemon did not renew the lease, or does not want it
	notAgain                // it was stopped less than a minute ago
	notOurs                 // somebody else stops it already
	notNoticed              // its parent would act on it
	notTooMany              // as many as allowed are stopped
	notPossible             // the kernel did not do it
	notDecided              // the filter of lists did not say that the packet is meant
)

// because notes why the process is not stopped, should the program go on from here.
func (a *assembler) because(why int32) {
	a.Add(asm.StoreImm(regRecord, recWhyNot, int64(why), asm.Word))
}

// unless jumps to "go on" if a register compares so.
func (a *assembler) unless(op asm.JumpOp, reg asm.Register, value int32) {
	a.Add(op.Imm(reg, value, "go on"))
}

// stop stops the process of the record, unless something speaks against it. It does so
// only while the lease is fresh, so a daemon that is dead or hangs makes nobody stop.
func (a *assembler) stop() {
	// Only in the sender's own context, which no tracer watches.
	a.because(notInContext)
	a.Add(asm.LoadMem(asm.R1, regRecord, recContext, asm.Word))
	a.unless(asm.JNE, asm.R1, 0)
	a.Add(asm.LoadMem(asm.R1, regRecord, recFlags, asm.Word), asm.And.Imm(asm.R1, kernelThread))
	a.unless(asm.JNE, asm.R1, 0)
	a.untraced()
	a.because(notInContext)
	// Only by a call that sends, or on a thread of io_uring.
	a.Add(asm.LoadMem(asm.R1, regRecord, recFlags, asm.Word), asm.And.Imm(asm.R1, userWorker), asm.JNE.Imm(asm.R1, 0, "sends"))
	a.Add(
		asm.LoadMem(asm.R1, regRecord, recCall, asm.Word),
		asm.And.Imm(asm.R1, ^x32Bit&0x7fffffff),
		asm.LoadMem(asm.R2, regRecord, recCompat, asm.Word),
		asm.And.Imm(asm.R2, compatStatus),
		asm.LSh.Imm(asm.R2, 30), // compatStatus becomes compatBit
		asm.Or.Reg(asm.R1, asm.R2),
	)
	a.Lookup(a.maps.calls, asm.R1)
	a.unless(asm.JEq, asm.R0, 0)
	a.Label("sends")
	a.unspared()
	a.leased()
	a.because(notAgain)
	a.notLately()
	a.unnoticed()
	a.notStoppedYet()
	a.Add(asm.Mov.Imm(asm.R9, holdByPacket))
	a.number()
	a.list(recUID, "go on")
	a.noteLately()
	a.halt()
	a.Label("go on")
}

// notStoppedYet goes on unless this may be one of several threads of a process that became the user, who sends before that stop has taken
// effect. Who is held for another reason has only this thread yet.
func (a *assembler) notStoppedYet() {
	a.because(notAgain)
	a.Add(asm.LoadMem(asm.R1, regRecord, recPIDs+4, asm.Word), asm.Or.Imm(asm.R1, holdByUID<<holdPIDBits))
	a.Lookup(a.maps.stopped, asm.R1)
	a.Add(asm.JEq.Imm(asm.R0, 0, "not held"))
	a.Follow(asm.R9, regTask, a.taskSignal)
	a.Probe(asm.RFP, bpfasm.OnWord, 4, asm.R9, a.signalThreads)
	a.Add(asm.LoadMem(asm.R1, asm.RFP, bpfasm.OnWord, asm.Word))
	a.unless(asm.JNE, asm.R1, 1)
	a.Label("not held")
}

// untraced goes on only if nobody traces the process.
func (a *assembler) untraced() {
	a.because(notTraced)
	a.Add(asm.LoadMem(asm.R1, regRecord, recPtrace, asm.Word))
	a.unless(asm.JNE, asm.R1, 0)
}

// unspared goes on only if the process is not PID 1, not one of ours, and not that of a user
// who is spared.
func (a *assembler) unspared() {
	a.because(notSpared)
	a.Add(asm.LoadMem(asm.R1, regRecord, recPIDs+4, asm.Word))
	a.unless(asm.JLE, asm.R1, 1)
	a.Lookup(a.maps.ours, asm.R1)
	a.unless(asm.JNE, asm.R0, 0)
	for _, uid := range []int16{recUID, recEUID} {
		a.Add(asm.LoadMem(asm.R1, regRecord, uid, asm.Word))
		a.Lookup(a.maps.spared, asm.R1)
		a.unless(asm.JNE, asm.R0, 0)
	}
}

// leased goes on only while the lease is fresh.
func (a *assembler) leased() {
	a.because(notLeased)
	a.Add(asm.Mov.Imm(asm.R1, 0))
	a.Lookup(a.maps.lease, asm.R1)
	a.unless(asm.JEq, asm.R0, 0)
	a.Add(
		asm.LoadMem(asm.R1, asm.R0, 0, asm.DWord),
		asm.LoadMem(asm.R2, regRecord, recTime, asm.DWord),
		asm.JLE.Reg(asm.R1, asm.R2, "go on"),
	)
}

// halt stops the process, which is on the list, and tells its keeper.
func (a *assembler) halt() {
	a.because(notPossible)
	a.Add(asm.Mov.Imm(asm.R1, sigstop), asm.FnSendSignal.Call(), asm.JEq.Imm(asm.R0, 0, "stopped"))
	// It could not be stopped: take it off the list.
	a.keyOf()
	a.Add(
		asm.LoadMapPtr(asm.R1, a.maps.stopped.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, bpfasm.OnKey),
		asm.FnMapDeleteElem.Call(),
		asm.Ja.Label("go on"),
	)
	a.Label("stopped")
	a.because(0)
	a.Add(asm.LoadMem(asm.R1, asm.RFP, onStackVal+stopNumber, asm.DWord), asm.StoreMem(regRecord, recHold, asm.R1, asm.DWord))
	a.output(a.maps.stops, stopSize) // if it is full, the list still has the process
}

// output puts what the list has of the process into a ring.
func (a *assembler) output(ring *ebpf.Map, size int32) {
	a.Add(
		asm.LoadMapPtr(asm.R1, ring.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, onStackVal),
		asm.Mov.Imm(asm.R3, size),
		asm.Mov.Imm(asm.R4, 0),
		asm.FnRingbufOutput.Call(),
	)
}

// notLately goes on only if the process was not stopped lately.
func (a *assembler) notLately() {
	a.Add(asm.LoadMem(asm.R1, regRecord, recPIDs+4, asm.Word))
	a.Lookup(a.maps.lately, asm.R1)
	a.Add(asm.JEq.Imm(asm.R0, 0, "not lately"))
	a.sameStart(regRecord, recStart, "not lately")
	a.since(again, "not lately")
	a.Add(asm.Ja.Label("go on"))
	a.Label("not lately")
}

// sameStart jumps if the process whose entry R0 points to did not start at a time, as /proc has
// it: then the PID was another's.
func (a *assembler) sameStart(start asm.Register, at int16, otherwise string) {
	a.Add(
		asm.LoadMem(asm.R1, asm.R0, stopStart, asm.DWord),
		asm.LoadMem(asm.R2, start, at, asm.DWord),
		asm.Div.Imm(asm.R1, int32(perTick)), asm.Div.Imm(asm.R2, int32(perTick)),
		asm.JNE.Reg(asm.R1, asm.R2, otherwise),
	)
}

// since jumps if the entry that R0 points to is older than so many nanoseconds.
func (a *assembler) since(ns int64, otherwise string) {
	a.Add(
		asm.LoadMem(asm.R1, asm.R0, stopTime, asm.DWord),
		asm.LoadImm(asm.R2, ns, asm.DWord),
		asm.Add.Reg(asm.R1, asm.R2),
		asm.LoadMem(asm.R2, regRecord, recTime, asm.DWord),
		asm.JLE.Reg(asm.R1, asm.R2, otherwise),
	)
}

// number gives the hold its number, for the reason in R9.
func (a *assembler) number() {
	a.Add(
		asm.LoadMem(asm.R1, regRecord, recTime, asm.DWord),
		asm.RSh.Imm(asm.R1, 20), asm.LSh.Imm(asm.R1, holdPIDBits), // about milliseconds
		asm.LoadMem(asm.R2, regRecord, recPIDs+4, asm.Word),
		asm.Or.Reg(asm.R1, asm.R2),
		asm.LoadImm(asm.R2, -1<<63, asm.DWord), // holdBit
		asm.Or.Reg(asm.R1, asm.R2),
		asm.LSh.Imm(asm.R9, holdByBit),
		asm.Or.Reg(asm.R1, asm.R9),
		asm.StoreMem(asm.RFP, onStackVal+stopNumber, asm.R1, asm.DWord),
	)
}

// list puts the process on the list of those that are stopped, and jumps if it is full. user is
// where the record has the user.
func (a *assembler) list(user int16, full string) {
	a.Add(
		asm.LoadMem(asm.R1, regRecord, recStart, asm.DWord), asm.StoreMem(asm.RFP, onStackVal+stopStart, asm.R1, asm.DWord),
		asm.LoadMem(asm.R1, regRecord, recTime, asm.DWord), asm.StoreMem(asm.RFP, onStackVal+stopTime, asm.R1, asm.DWord),
		asm.LoadMem(asm.R1, regRecord, recPIDs+4, asm.Word), asm.StoreMem(asm.RFP, onStackVal+stopPID, asm.R1, asm.Word),
		asm.LoadMem(asm.R1, regRecord, user, asm.Word), asm.StoreMem(asm.RFP, onStackVal+stopUID, asm.R1, asm.Word),
	)
	const newOnly = 1 // BPF_NOEXIST
	a.because(notTooMany)
	a.keyOf()
	a.note(a.maps.stopped, newOnly)
	a.Add(asm.JNE.Imm(asm.R0, 0, full))
}

// noteLately notes that the process was stopped.
func (a *assembler) noteLately() {
	const any = 0 // BPF_ANY
	a.Add(asm.LoadMem(asm.R1, regRecord, recPIDs+4, asm.Word), asm.StoreMem(asm.RFP, bpfasm.OnKey, asm.R1, asm.Word))
	a.note(a.maps.lately, any)
}

// keyOf puts what [keyOf] returns for the hold where a key is.
func (a *assembler) keyOf() {
	a.Add(
		asm.LoadMem(asm.R1, asm.RFP, onStackVal+stopNumber, asm.DWord),
		asm.Mov.Reg(asm.R2, asm.R1), asm.RSh.Imm(asm.R2, holdByBit), asm.And.Imm(asm.R2, holdBy),
		asm.LSh.Imm(asm.R2, holdPIDBits), asm.And.Imm(asm.R1, holdPID), asm.Or.Reg(asm.R1, asm.R2),
		asm.StoreMem(asm.RFP, bpfasm.OnKey, asm.R1, asm.Word),
	)
}

// note puts what the list has of the process into a map, by the key that is where one is.
func (a *assembler) note(m *ebpf.Map, flag int32) {
	a.Add(
		asm.LoadMapPtr(asm.R1, m.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, bpfasm.OnKey),
		asm.Mov.Reg(asm.R3, asm.RFP), asm.Add.Imm(asm.R3, onStackVal),
		asm.Mov.Imm(asm.R4, flag),
		asm.FnMapUpdateElem.Call(),
	)
}
