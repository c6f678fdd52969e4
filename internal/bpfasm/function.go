package bpfasm

import (
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
)

// A Function is a part of a program that is called (Documentation/bpf/btf.rst): with the program's packet in R1, and numbers in R2
// and so on.
type Function struct {
	Name    string // what [asm.Call] refers to
	Numbers int    // parameters after the packet
	// Global: the verifier looks at it once and alone, and not at each call with what it knows there. So it costs a caller no more of
	// the instructions that the verifier goes through, however often it is called.
	Global bool
}

// Instructions make a function of a program. Its labels are its own. If a program has functions, its beginning has to be one, too.
func (f Function) Instructions(program asm.Instructions) asm.Instructions {
	own := func(label string) string { return f.Name + ": " + label }
	for i, in := range program {
		if label := in.Symbol(); label != "" {
			program[i] = program[i].WithSymbol(own(label))
		}
		if label := in.Reference(); label != "" && in.OpCode.JumpOp() != asm.InvalidJumpOp && !in.IsFunctionReference() {
			program[i] = program[i].WithReference(own(label))
		}
	}
	program[0] = btf.WithFuncMetadata(program[0].WithSymbol(f.Name), &btf.Func{Name: nameOf(f.Name), Type: f.signature(), Linkage: f.linkage()})
	return program
}

// nameOf is what the kernel takes for a name of a function.
func nameOf(name string) string {
	b := []byte(name)
	for i, c := range b {
		if c == ' ' {
			b[i] = '_'
		}
	}
	return string(b)
}

func (f Function) linkage() btf.FuncLinkage {
	if f.Global {
		return btf.GlobalFunc
	}
	return btf.StaticFunc
}

func (f Function) signature() *btf.FuncProto {
	number := &btf.Int{Name: "unsigned long", Size: 8}
	p := &btf.FuncProto{
		Return: &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed},
		Params: []btf.FuncParam{{Name: "skb", Type: &btf.Pointer{Target: &btf.Struct{Name: "__sk_buff", Size: 4, Members: []btf.Member{{Name: "len", Type: &btf.Int{Name: "unsigned int", Size: 4}}}}}}},
	}
	for i := range f.Numbers {
		p.Params = append(p.Params, btf.FuncParam{Name: string(rune('a' + i)), Type: number})
	}
	return p
}
