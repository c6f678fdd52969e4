package lookback

import (
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// programs returns the programs. All processes pay for the first one with each system call, so
// nothing runs before a call: when it began is not known. The others run rarely.
func programs(l *layout, r *ring) []*ebpf.ProgramSpec {
	return []*ebpf.ProgramSpec{returnProgram(l, r), startProgram(l, r), endProgram(l, r)}
}

func spec(name, tracepoint string, ins asm.Instructions) *ebpf.ProgramSpec {
	return &ebpf.ProgramSpec{
		Name: name, Type: ebpf.Tracing, AttachType: ebpf.AttachTraceRawTp, AttachTo: tracepoint, License: "GPL", Instructions: ins,
	}
}

// returnProgram runs after each system call, and records it. What is not recorded costs least: first
// the number is looked at, then the user.
func returnProgram(l *layout, r *ring) *ebpf.ProgramSpec {
	a := &assembler{layout: l, ring: r}
	all, compat := calls(), compatNumbers()
	a.Add(
		asm.LoadMem(asm.R6, asm.R1, 0, asm.DWord), // struct pt_regs *
		asm.LoadMem(asm.R8, asm.R1, 8, asm.DWord), // the result
		asm.LoadMem(asm.R7, asm.R6, int16(l.number), asm.Word),
	)
	either := append(numbers(all), compat...)
	slices.Sort(either)
	a.Branch(asm.R7, slices.Compact(either), func(uint32) string { return "perhaps" }, "end")
	a.Label("perhaps")
	a.recorded()
	a.Add(asm.StoreMem(asm.RFP, onRegs, asm.R6, asm.DWord), asm.StoreMem(asm.RFP, onResult, asm.R8, asm.DWord))
	a.call()
	wanted := numbers(all)
	for _, n := range compat {
		wanted = append(wanted, n|callCompat)
	}
	forms := map[form]string{}
	a.Branch(asm.R7, wanted, func(n uint32) string {
		f := all[n].form // that of a 32-bit call is none: its arguments are others
		if forms[f] == "" {
			forms[f] = a.Fresh("form")
		}
		return forms[f]
	}, "end")
	for f := none; f <= naming; f++ {
		if forms[f] != "" {
			a.Label(forms[f])
			a.record(f)
			a.Add(asm.Ja.Label("commit"))
		}
	}
	a.commit()
	return spec("culprit_return", "sys_exit", a.End(0))
}

// startProgram runs when a process has become another program, and records that as the execve that
// it was: with the name that was asked for, and the arguments that the program has got.
func startProgram(l *layout, r *ring) *ebpf.ProgramSpec {
	a := &assembler{layout: l, ring: r}
	a.Add(asm.LoadMem(asm.R6, asm.R1, 16, asm.DWord), asm.StoreMem(asm.RFP, onBinary, asm.R6, asm.DWord)) // struct linux_binprm *
	a.recorded()
	a.pointer(asm.R6, asm.R0, l.taskMM)
	a.Zero(asm.RFP, onResult, 8)
	a.Add(
		asm.Mov.Imm(asm.R1, callStarts), asm.StoreMem(asm.RFP, onNumber, asm.R1, asm.DWord),
		asm.LoadMem(asm.R1, asm.R6, int16(l.mmArgs), asm.DWord), asm.StoreMem(asm.RFP, onVectors, asm.R1, asm.DWord),
		asm.LoadMem(asm.R2, asm.R6, int16(l.mmArgsEnd), asm.DWord), asm.Sub.Reg(asm.R2, asm.R1), asm.StoreMem(asm.RFP, onCount, asm.R2, asm.DWord),
		asm.LoadMem(asm.R1, asm.R6, int16(l.mmEnv), asm.DWord), asm.StoreMem(asm.RFP, onVector, asm.R1, asm.DWord),
	)
	a.reserve()
	a.Add(
		asm.Mov.Reg(asm.R6, regSegment), asm.Add.Reg(asm.R6, regBegin),
		asm.LoadMem(asm.R1, asm.RFP, onBinary, asm.DWord),
		asm.LoadMem(asm.R2, asm.R1, int16(l.binName), asm.DWord),
		asm.LoadMem(asm.R3, asm.R1, int16(l.binInterp), asm.DWord), asm.Sub.Reg(asm.R3, asm.R2),
		asm.StoreMem(asm.R6, recArgs+startsScript, asm.R3, asm.DWord),
		asm.LoadMem(asm.R1, asm.RFP, onVector, asm.DWord), asm.StoreMem(asm.R6, recArgs+startsEnv, asm.R1, asm.DWord),
	)
	a.parent()
	a.str(asm.FnProbeReadKernelStr, asm.LoadMem(asm.R3, asm.RFP, onBinary, asm.DWord), asm.LoadMem(asm.R3, asm.R3, int16(l.binName), asm.DWord))
	a.bytes(partArgs, int32(argsSize(r.config.Strings)), onStack(asm.R6, onCount), onStack(asm.R3, onVectors))
	a.commit()
	return spec("culprit_start", "sched_process_exec", a.End(0))
}

// endProgram runs when a thread ends, by itself or by a signal.
func endProgram(l *layout, r *ring) *ebpf.ProgramSpec {
	a := &assembler{layout: l, ring: r}
	a.recorded()
	a.Add(
		asm.LoadMem(asm.R1, asm.R0, int16(l.taskExit), asm.Word), asm.StoreMem(asm.RFP, onResult, asm.R1, asm.DWord),
		asm.Mov.Reg(asm.R1, asm.R0), asm.FnTaskPtRegs.Call(),
		asm.StoreMem(asm.RFP, onRegs, asm.R0, asm.DWord),
		asm.LoadMem(asm.R7, asm.R0, int16(l.number), asm.Word),
	)
	a.call()
	a.Add(
		asm.LoadMem(asm.R1, asm.RFP, onNumber, asm.DWord),
		asm.Or.Imm(asm.R1, callEnds), asm.StoreMem(asm.RFP, onNumber, asm.R1, asm.DWord),
	)
	a.reserve()
	a.arguments(l.args)
	a.commit()
	return spec("culprit_end", "sched_process_exit", a.End(0))
}
