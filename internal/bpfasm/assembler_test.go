package bpfasm

import (
	"fmt"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"culprit/internal/testkit"
)

// run runs a program that is given its packet's length in R6 and returns R7.
func run(t *testing.T, write func(a *Assembler), length int) uint32 {
	t.Helper()
	testkit.Root(t)
	a := new(Assembler)
	a.Add(asm.LoadMem(asm.R6, asm.R1, 0, asm.Word), asm.Mov.Imm(asm.R7, 0)) // __sk_buff.len
	const never = 1 << 20
	a.Add(asm.JEq.Imm(asm.R6, never, "end"))
	write(a)
	a.Label("return")
	a.Add(asm.Mov.Reg(asm.R0, asm.R7), asm.Return())
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SocketFilter, Instructions: a.End(0), License: "GPL"})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	const header = 14 // the kernel takes it off
	got, err := p.Run(&ebpf.RunOptions{Data: make([]byte, header+length)})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestBranch(t *testing.T) {
	for _, values := range [][]uint32{nil, {7}, {1, 5, 9}, {1, 5, 9, 10}, {2, 3, 5, 7, 11, 13, 17, 19, 23, 1 << 31, 1<<32 - 1}} {
		write := func(a *Assembler) {
			a.Branch(asm.R6, values, func(v uint32) string { return fmt.Sprint("value ", v) }, "other")
			for _, v := range values {
				a.Label(fmt.Sprint("value ", v))
				a.Add(asm.LoadImm(asm.R7, int64(v), asm.DWord), asm.Ja.Label("return"))
			}
			a.Label("other")
			a.Add(asm.Mov.Imm(asm.R7, 1000))
		}
		for n := range uint32(25) {
			want := uint32(1000)
			if slices.Contains(values, n) {
				want = n
			}
			if got := run(t, write, int(n)); got != want {
				t.Errorf("of %v, %d goes to %d, want %d", values, n, got, want)
			}
		}
	}
}

// Two labels at one place, code that is put behind the rest, and memory.
func TestAssembler(t *testing.T) {
	count, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		t.Skip(err)
	}
	defer count.Close()
	got := run(t, func(a *Assembler) {
		back, far := a.Fresh("back"), a.Fresh("far")
		a.Zero(asm.RFP, -48, 16)
		a.Add(asm.LoadMem(asm.R7, asm.RFP, -40, asm.DWord), asm.JEq.Imm(asm.R6, 3, far))
		a.Later(func() {
			a.Label(far)
			a.Count(count)
			a.Count(count)
			a.Add(asm.Mov.Imm(asm.R6, 0))
			a.Lookup(count, asm.R6)
			a.Add(asm.JEq.Imm(asm.R0, 0, "end"), asm.LoadMem(asm.R7, asm.R0, 0, asm.DWord), asm.Ja.Label(back))
		})
		a.Label("one")
		a.Label(back)
		a.Add(asm.Add.Imm(asm.R7, 40))
	}, 3)
	if got != 42 {
		t.Errorf("the program returned %d, want 42", got)
	}
}
