package sensor

import (
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// Programs of captured users are held at their start: two programs on raw tracepoints stop a
// process of these users before its first instruction.
//
// One is on sched_process_exec: in the new program's context, when its credentials are set
// (exec_binprm in fs/exec.c), however it was started. The other is on sys_exit, for processes that
// run no new program: in a child whose fork has returned 0, and in a process that has become
// the user by a call that returned 0. That tracepoint fires for each system call on the
// machine, so both are attached only while programs of anybody are held.
//
// A strace may be attaching meanwhile. If it sees the SIGSTOP, it passes it on, but it does nothing
// any more once we have sent SIGCONT (JOBCTL_STOP_DEQUEUED in kernel/signal.c).

// uidCalls and forkCalls are the calls of interest by number; those of the 32-bit interface have
// startCompat set.
func uidCalls() []int32 {
	return append(compatUIDCalls(), unix.SYS_SETUID, unix.SYS_SETREUID, unix.SYS_SETRESUID)
}

func forkCalls() []int32 {
	return append(otherForkCalls(), unix.SYS_CLONE, unix.SYS_CLONE3)
}

const (
	startCompat      = 1 << 15
	startCompatShift = 14 // compatStatus becomes startCompat
)

// execProgram holds what has become another program.
func execProgram(l *layout, m *maps) *ebpf.ProgramSpec {
	a := &assembler{layout: l, maps: m}
	a.whoOnStack()
	a.ofUsers()
	a.Add(asm.Mov.Imm(asm.R9, holdByExec))
	a.hold()
	return &ebpf.ProgramSpec{Name: "culprit_exec", Type: ebpf.RawTracepoint, Instructions: a.End(0), License: "GPL"}
}

// exitProgram holds children, and what has become a user.
func exitProgram(l *layout, m *maps) *ebpf.ProgramSpec {
	a := &assembler{layout: l, maps: m}
	// Others pay for this: most calls do not return 0, and few of those have these numbers.
	a.Add(
		asm.LoadMem(asm.R9, asm.R1, 8, asm.DWord), asm.JNE.Imm(asm.R9, 0, "end"),
		asm.LoadMem(asm.R6, asm.R1, 0, asm.DWord), // struct pt_regs *
	)
	a.Follow(asm.R9, asm.R6, l.call)
	a.Add(asm.And.Imm(asm.R9, ^x32Bit&0x7fffffff))
	numbers := map[int32]bool{}
	for _, n := range append(uidCalls(), forkCalls()...) {
		if n &^= startCompat; !numbers[n] {
			numbers[n] = true
			a.Add(asm.JEq.Imm(asm.R9, n, "perhaps"))
		}
	}
	a.Add(asm.Ja.Label("end"))
	a.Label("perhaps")
	a.whoOnStack()
	a.ofUsers()
	a.Add(
		asm.LoadMem(asm.R9, regRecord, recCall, asm.Word), asm.And.Imm(asm.R9, ^x32Bit&0x7fffffff),
		asm.LoadMem(asm.R1, regRecord, recCompat, asm.Word), asm.And.Imm(asm.R1, compatStatus),
		asm.LSh.Imm(asm.R1, startCompatShift), asm.Or.Reg(asm.R9, asm.R1),
	)
	for _, n := range uidCalls() {
		a.Add(asm.JEq.Imm(asm.R9, n, "uid"))
	}
	for _, n := range forkCalls() {
		a.Add(asm.JEq.Imm(asm.R9, n, "fork"))
	}
	a.Add(asm.Ja.Label("go on"))

	a.Label("fork")
	a.Add( // a thread is no new process
		asm.LoadMem(asm.R1, regRecord, recPIDs, asm.Word), asm.LoadMem(asm.R2, regRecord, recPIDs+4, asm.Word),
		asm.JNE.Reg(asm.R1, asm.R2, "go on"),
	)
	a.Follow(asm.R6, regTask, l.taskParent)
	a.Follow(asm.R9, asm.R6, l.taskLeader)
	a.Follow(asm.R9, asm.R9, l.taskStart)
	a.Add(asm.StoreMem(asm.RFP, onStackVal, asm.R9, asm.DWord))
	a.Follow(asm.R9, asm.R6, l.taskTGID) // and the 4 bytes after it
	a.notLeft(asm.R9, asm.RFP, onStackVal, "fork held")
	a.Add(asm.Mov.Imm(asm.R9, holdByFork), asm.Ja.Label("held"))

	a.Label("uid")
	a.Add(asm.LoadMem(asm.R9, regRecord, recPIDs+4, asm.Word))
	a.notLeft(asm.R9, regRecord, recStart, "uid held")
	a.Add(asm.Mov.Imm(asm.R9, holdByUID))
	a.Label("held")
	a.hold()
	return &ebpf.ProgramSpec{Name: "culprit_exit", Type: ebpf.RawTracepoint, Instructions: a.End(0), License: "GPL"}
}

// whoOnStack notes who runs in a record on the stack.
func (a *assembler) whoOnStack() {
	a.Add(asm.Mov.Reg(regRecord, asm.RFP), asm.Add.Imm(regRecord, onStackRec))
	a.who()
}

// ofUsers goes on only if the process belongs to a user whose programs are held, as
// [proc.Status.Of] has it, and notes which.
func (a *assembler) ofUsers() {
	a.Add(asm.LoadMem(asm.R1, regRecord, recUID, asm.Word))
	a.Lookup(a.maps.users, asm.R1)
	a.Add(asm.LoadMem(asm.R9, regRecord, recUID, asm.Word), asm.JNE.Imm(asm.R0, 0, "of user"))
	a.unless(asm.JEq, asm.R9, 0) // root that acts for a user
	a.Add(asm.LoadMem(asm.R9, regRecord, recEUID, asm.Word))
	a.Lookup(a.maps.users, asm.R9)
	a.unless(asm.JEq, asm.R0, 0)
	a.Label("of user")
	a.Add(asm.StoreMem(regRecord, recUser, asm.R9, asm.Word))
}

// notLeft goes on only if the daemon has not refused the process with this PID and start, for the user and the cgroup of who
// runs: either can be another by now, whose programs are wanted.
func (a *assembler) notLeft(pid, start asm.Register, at int16, on string) {
	a.Lookup(a.maps.left, pid)
	a.Add(asm.JEq.Imm(asm.R0, 0, on))
	a.sameStart(start, at, on)
	a.Add(
		asm.LoadMem(asm.R1, asm.R0, stopUID, asm.Word), asm.LoadMem(asm.R2, regRecord, recUser, asm.Word), asm.JNE.Reg(asm.R1, asm.R2, on),
		asm.LoadMem(asm.R1, asm.R0, leftCgroup, asm.DWord), asm.LoadMem(asm.R2, regRecord, recCgroup, asm.DWord), asm.JNE.Reg(asm.R1, asm.R2, on),
	)
	a.since(again, on)
	a.Add(asm.Ja.Label("go on"))
	a.Label(on)
}

// leftCgroup is where the entry of a process that was refused has its cgroup; those who are stopped have their number there.
const leftCgroup = stopNumber

// hold stops the process, for the reason in R9, unless something speaks against it.
func (a *assembler) hold() {
	a.Add(asm.StoreMem(regRecord, recHold, asm.R9, asm.DWord))
	a.untraced()
	a.unspared()
	a.leased()
	a.unnoticed()
	a.Add(asm.LoadMem(asm.R9, regRecord, recHold, asm.DWord))
	a.number()
	a.list(recUser, "full")
	a.halt()
	a.tellStart() // if the ring is full, the deadline lets the process go on
	a.Add(asm.JEq.Imm(asm.R0, 0, "go on"))
	// It goes on, and the daemon is told without a hold.
	a.Label("full")
	a.Add(asm.StoreMem(asm.RFP, onStackVal+stopNumber, asm.R9, asm.DWord))
	a.Count(a.maps.unheld)
	a.tellStart()
	a.Label("go on")
}

// tellStart tells the daemon of the process, with its cgroup behind what the list has.
func (a *assembler) tellStart() {
	const cgroup = onStackVal + startCgroup // which is bpfasm.OnKey
	a.Add(asm.LoadMem(asm.R1, regRecord, recCgroup, asm.DWord), asm.StoreMem(asm.RFP, cgroup, asm.R1, asm.DWord))
	a.output(a.maps.starts, startSize)
}
