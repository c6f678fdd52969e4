package nfilter

import (
	"fmt"
	"maps"
	"slices"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"culprit/internal/bpfasm"
)

// functionName is the name of the function of [Filter.Function].
const functionName = "lists"

// What it returns, either or both, as sensor.Lists has it.
const (
	mayBeListed  = 1 // by one of the lists, and no exception may mean the name
	notDecidable = 2 // of another: user space has to look
)

// The packet of the function is copied to a scratch of the processor. A program that interrupts another one there, or has taken
// its place, finds that in use, and does not decide.
const (
	atBusy = 3104 // u64: it is in use
	atZero = 3112 // where the name's final zero is
	atLast = 3120 // where its last label is
)

// States of a packet.
const (
	noQuestion = iota // none that could be listed
	plain             // one, and it is in the scratch
	unclear           // user space has to look
	busy              // likewise, and the scratch is somebody else's
)

// The parts of the function. One looks at the packet, the other at a list.
var (
	questionFunction = bpfasm.Function{Name: "lists question", Global: true}
	ruleFunction     = bpfasm.Function{Name: "lists rule", Numbers: 2, Global: true}
)

// Function returns a function for a program that sees packets, IP header first. It is to be called with the packet (struct __sk_buff)
// and a set of bits, see sensor.Lists. It does what the filter does to the messages about packets, by the same code.
func (f *Filter) Function(bits map[string]uint64) (name string, function asm.Instructions) {
	function = append(f.dispatch(bits), f.lookAt()...)
	if slices.ContainsFunc(f.names, func(name string) bool { return bits[name] != 0 }) { // the kernel wants no function that nobody calls
		function = append(function, f.ask()...)
	}
	return functionName, function
}

// dispatch asks one list after the other. R6 is the packet, R7 the bits, R8 the result, R9 the state of the packet.
func (f *Filter) dispatch(bits map[string]uint64) asm.Instructions {
	p := &program{Filter: f}
	p.Add(
		asm.Mov.Reg(asm.R6, asm.R1), asm.Mov.Reg(asm.R7, asm.R2), asm.Mov.Imm(asm.R8, 0),
		asm.Call.Label(questionFunction.Name),
		asm.Mov.Reg(asm.R9, asm.R0),
	)
	unknown := maps.Clone(bits)
	for i, name := range f.names {
		delete(unknown, name)
		if bits[name] == 0 {
			continue
		}
		next := p.Fresh("next")
		p.Add(
			asm.LoadImm(asm.R1, int64(bits[name]), asm.DWord), asm.And.Reg(asm.R1, asm.R7), asm.JEq.Imm(asm.R1, 0, next),
			asm.Mov.Reg(asm.R1, asm.R6), asm.Mov.Imm(asm.R2, int32(i)), asm.Mov.Reg(asm.R3, asm.R9),
			asm.Call.Label(ruleFunction.Name),
			asm.Or.Reg(asm.R8, asm.R0),
		)
		p.Label(next)
	}
	for _, bit := range unknown { // there are none
		other := p.Fresh("other")
		p.Add(asm.LoadImm(asm.R1, int64(bit), asm.DWord), asm.And.Reg(asm.R1, asm.R7), asm.JEq.Imm(asm.R1, 0, other), asm.Or.Imm(asm.R8, notDecidable))
		p.Label(other)
	}
	p.Add(asm.JEq.Imm(asm.R9, busy, "done"))
	p.own("end") // never
	p.Add(asm.Mov.Imm(asm.R1, 0), asm.StoreMem(asm.R0, atBusy, asm.R1, asm.DWord))
	p.Label("done")
	p.Add(asm.Mov.Reg(asm.R0, asm.R8), asm.Return())
	return bpfasm.Function{Name: functionName, Numbers: 1}.Instructions(p.End(notDecidable))
}

// own gets the processor's scratch into R0, or jumps.
func (p *program) own(otherwise string) {
	p.Add(asm.Mov.Imm(asm.R1, 0))
	p.Lookup(p.scratches, asm.R1)
	p.Add(asm.JEq.Imm(asm.R0, 0, otherwise))
}

// returns ends the function.
func (p *program) returns(result int32) { p.Add(asm.Mov.Imm(asm.R0, result), asm.Return()) }

// lookAt copies the packet, finds its question, and returns the state.
func (f *Filter) lookAt() asm.Instructions {
	p := &program{Filter: f}
	p.Add(asm.Mov.Reg(regMessage, asm.R1))
	p.own("busy")
	p.Add(
		asm.Mov.Reg(regScratch, asm.R0),
		asm.Mov.Imm(asm.R1, 1), bpfasm.Exchange(regScratch, asm.R1, atBusy), asm.JNE.Imm(asm.R1, 0, "busy"),
		asm.LoadMem(asm.R4, regMessage, 0, asm.Word), // __sk_buff.len
		asm.JLT.Imm(asm.R4, smallestPacket, "undecided"),
		asm.JGT.Imm(asm.R4, maxPacket, "undecided"),
		asm.Mov.Imm(regAt, 0),
	)
	p.copy(0)
	p.headers()
	p.question()
	p.Add(
		asm.StoreMem(regScratch, atZero, regAt, asm.DWord), asm.StoreMem(regScratch, atLast, asm.R3, asm.DWord),
	)
	p.returns(plain)
	p.Label("drop")
	p.returns(noQuestion)
	p.Label("undecided")
	p.returns(unclear)
	p.Label("busy")
	return questionFunction.Instructions(p.End(busy))
}

// ask looks the question up in the list of the rule with the index in R2. The state of the packet is in R3.
func (f *Filter) ask() asm.Instructions {
	p := &program{Filter: f}
	p.Add(asm.Mov.Reg(regMessage, asm.R3))
	p.Lookup(p.elsewhere, asm.R2)
	p.Add(
		asm.JEq.Imm(asm.R0, 0, "end"), // never
		asm.Mov.Reg(regRule, asm.R0),
		asm.JEq.Imm(regMessage, noQuestion, "drop"),
		asm.JNE.Imm(regMessage, plain, "undecided"),
	)
	p.own("undecided")
	p.Add(
		asm.Mov.Reg(regScratch, asm.R0),
		asm.LoadMem(regAt, regScratch, atZero, asm.DWord), asm.And.Imm(regAt, placeMask),
		asm.LoadMem(asm.R3, regScratch, atLast, asm.DWord), asm.And.Imm(asm.R3, placeMask),
	)
	p.ask()
	p.Label("pass")
	p.count(unsafe.Offsetof(Counts{}.Passed))
	p.returns(mayBeListed)
	p.Label("drop")
	p.count(unsafe.Offsetof(Counts{}.Dropped))
	p.returns(0)
	p.Label("undecided")
	p.count(unsafe.Offsetof(Counts{}.Undecided))
	return ruleFunction.Instructions(p.End(notDecidable))
}

// ProbeFunction says why the kernel does not take the function of a filter in a program that sees packets, or nil. It tries the
// largest.
func ProbeFunction() error {
	all := kinds{true, true, true}
	f, err := load(nil, nil, all, all)
	if err != nil {
		return err
	}
	defer f.Close()
	f.names = []string{"any"}
	p, err := ebpf.NewProgram(f.caller(map[string]uint64{"any": 1}, 1))
	if err != nil {
		return fmt.Errorf("look lists up for a program that sees packets: %w", err)
	}
	return p.Close()
}

// caller is a program that does nothing but call the function with a set of bits.
func (f *Filter) caller(of map[string]uint64, bits uint64) *ebpf.ProgramSpec {
	name, function := f.Function(of)
	caller := asm.Instructions{asm.LoadImm(asm.R2, int64(bits), asm.DWord), asm.Call.Label(name), asm.And.Imm(asm.R0, mayBeListed|notDecidable), asm.Return()}
	return &ebpf.ProgramSpec{
		Name: "culprit_caller", Type: ebpf.CGroupSKB, AttachType: ebpf.AttachCGroupInetEgress, License: "GPL",
		Instructions: append(bpfasm.Function{Name: "caller"}.Instructions(caller), function...),
	}
}
