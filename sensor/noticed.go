package sensor

import (
	"encoding/binary"

	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// A parent is told when its child is stopped, and some act on it: an interactive shell takes the
// job for stopped by its user and puts it into the background; su, runuser and sudo stop
// themselves, and nobody would let them go on. Children of these are not stopped.

// stopSignals are SIGSTOP, SIGTSTP, SIGTTIN and SIGTTOU, as a set of signals.
const stopSignals = 1<<(unix.SIGSTOP-1) | 1<<(unix.SIGTSTP-1) | 1<<(unix.SIGTTIN-1) | 1<<(unix.SIGTTOU-1)

// Indices of signal_struct.pids (enum pid_type in include/linux/pid_types.h), in bytes.
const (
	pidOfGroup   = 2 * 8
	pidOfSession = 3 * 8
)

// stopThemselves are programs that stop themselves when their child is stopped. sudo waits in poll(2), and su
// and runuser may not be waiting yet. Only the name tells them, and their rights: anybody can have the
// name.
var stopThemselves = [...]string{"sudo", "su", "runuser"}

// commOf is the beginning of the kernel's name of a program, as a number.
func commOf(name string) int64 {
	var comm [8]byte
	copy(comm[:], name)
	return int64(binary.NativeEndian.Uint64(comm[:]))
}

// unnoticed goes on only if nobody else is stopping the process, and nobody acts on that we do. It
// uses R8 for the task, and R6.
func (a *assembler) unnoticed() {
	a.Add(asm.FnGetCurrentTaskBtf.Call(), asm.Mov.Reg(regTask, asm.R0))
	a.notStopping()
	a.because(notNoticed)
	a.Follow(regBytes, regTask, a.taskParent)
	a.notJob()
	a.notWaitedFor()
	a.Follow(asm.R9, regBytes, a.taskComm)
	for _, name := range stopThemselves {
		a.Add(asm.LoadImm(asm.R1, commOf(name), asm.DWord), asm.JEq.Reg(asm.R9, asm.R1, "stops itself"))
	}
	a.Add(asm.Ja.Label("unnoticed"))
	a.Label("stops itself")
	a.Follow(asm.R9, regBytes, a.taskCred)
	a.Follow(asm.R9, asm.R9, a.credEUID) // and the 4 bytes after it
	a.Add(asm.LSh.Imm(asm.R9, 32), asm.JEq.Imm(asm.R9, 0, "go on"))
	a.Label("unnoticed")
}

// notStopping goes on only if no signal waits that stops the process: the kernel keeps one of
// each kind, and ours would be taken for theirs.
func (a *assembler) notStopping() {
	a.because(notOurs)
	waiting := func() {
		a.Add(asm.And.Imm(asm.R9, stopSignals), asm.JNE.Imm(asm.R9, 0, "go on"))
	}
	a.Follow(asm.R9, regTask, a.taskPending)
	waiting()
	a.Follow(asm.R9, regTask, a.taskSignal)
	a.Follow(asm.R9, asm.R9, a.signalPending)
	waiting()
}

// notJob goes on only if the process is no job of a shell: with a controlling terminal, and a
// parent of the same session who is in another process group.
func (a *assembler) notJob() {
	a.Follow(asm.R9, regTask, a.taskSignal)
	keep := func(at int16) { a.Add(asm.StoreMem(asm.RFP, at, asm.R9, asm.DWord)) }
	const own, parents, value = onStackVal, onStackVal + 8, onStackVal + 16
	keep(own)
	a.Follow(asm.R9, asm.R9, a.signalTTY)
	a.Add(asm.JEq.Imm(asm.R9, 0, "no job"))
	a.Follow(asm.R9, regBytes, a.taskSignal)
	keep(parents)
	// compare leaves in R1 and R9 what both have.
	compare := func(pid uint32) {
		a.Add(asm.LoadMem(asm.R9, asm.RFP, own, asm.DWord))
		a.Follow(asm.R9, asm.R9, a.signalPIDs+pid)
		keep(value)
		a.Add(asm.LoadMem(asm.R9, asm.RFP, parents, asm.DWord))
		a.Follow(asm.R9, asm.R9, a.signalPIDs+pid)
		a.Add(asm.LoadMem(asm.R1, asm.RFP, value, asm.DWord))
	}
	compare(pidOfSession)
	a.Add(asm.JNE.Reg(asm.R1, asm.R9, "no job"))
	compare(pidOfGroup)
	a.Add(asm.JNE.Reg(asm.R1, asm.R9, "go on"))
	a.Label("no job")
}

// notWaitedFor goes on only if the parent is not in a system call that waits for children that
// are stopped (WUNTRACED; man 2 wait).
func (a *assembler) notWaitedFor() {
	// The registers of a system call are at the same place of each task's stack.
	a.Add(
		asm.Mov.Reg(asm.R1, regTask), asm.FnTaskPtRegs.Call(),
		asm.Mov.Reg32(asm.R0, asm.R0), // the verifier lets nobody calculate with the whole pointer
		asm.StoreMem(asm.RFP, onStackVal, asm.R0, asm.DWord),
	)
	a.Follow(asm.R9, regTask, a.taskStack)
	a.Add(
		asm.LoadMem(asm.R1, asm.RFP, onStackVal, asm.DWord),
		asm.Sub.Reg(asm.R1, asm.R9),
		asm.LSh.Imm(asm.R1, 32), asm.RSh.Imm(asm.R1, 32), // a stack has less than 4 GiB
		asm.StoreMem(asm.RFP, onStackVal, asm.R1, asm.DWord),
	)
	a.Follow(asm.R9, regBytes, a.taskStack)
	a.Add(
		asm.LoadMem(asm.R1, asm.RFP, onStackVal, asm.DWord),
		asm.Add.Reg(asm.R9, asm.R1),
		asm.StoreMem(asm.RFP, onStackVal, asm.R9, asm.DWord),
	)
	a.Follow(asm.R9, asm.R9, a.call)
	a.Add(asm.JEq.Imm(asm.R9, unix.SYS_WAITID, "waitid"), asm.JNE.Imm(asm.R9, unix.SYS_WAIT4, "no wait"))
	options := func(arg uint32) {
		a.Add(asm.LoadMem(asm.R9, asm.RFP, onStackVal, asm.DWord))
		a.Follow(asm.R9, asm.R9, arg)
		a.Add(asm.And.Imm(asm.R9, unix.WUNTRACED|unix.WNOHANG), asm.JEq.Imm(asm.R9, unix.WUNTRACED, "go on"))
	}
	options(a.arg3)
	a.Add(asm.Ja.Label("no wait"))
	a.Label("waitid")
	options(a.arg4)
	a.Label("no wait")
}
