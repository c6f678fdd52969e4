package nfilter

import (
	"testing"

	"github.com/cilium/ebpf"

	"culprit/internal/testkit"
	"culprit/lists/format"
	"culprit/lists/set"
	"culprit/lists/set/settest"
)

// mustCall loads a program that calls the function with a set of bits.
func mustCall(t testing.TB, f *Filter, of map[string]uint64, bits uint64) *ebpf.Program {
	t.Helper()
	p, err := ebpf.NewProgram(f.caller(of, bits))
	if err != nil {
		t.Fatalf("%+v", err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func call(t testing.TB, p *ebpf.Program, packet []byte) uint32 {
	t.Helper()
	if len(packet) < 20 {
		return notDecidable // the kernel runs nothing for less than a header
	}
	ether := append(make([]byte, 12), 0x08, 0x00)
	if packet[0]>>4 == 6 {
		ether[12], ether[13] = 0x86, 0xdd
	}
	got, err := p.Run(&ebpf.RunOptions{Data: append(ether, packet...)})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// mustFunction returns what says the outcome for a packet, of the list alone.
func mustFunction(t testing.TB, f *Filter) func(packet []byte) string {
	p := mustCall(t, f, map[string]uint64{"list": 4, "other": 2}, 4|1)
	return func(packet []byte) string {
		return map[uint32]string{0: drop, mayBeListed: pass, notDecidable: undecided}[call(t, p, packet)]
	}
}

// Each list that is asked has its say, and its counts; the others have none.
func TestFunction(t *testing.T) {
	rules := map[string]*set.Set{
		"a": settest.New(t, format.Entry{Name: "evil.example", Kind: format.Whole}),
		"b": settest.New(t, format.Entry{Name: "evil.example", Kind: format.Whole}, format.Entry{Name: "evil.example", Kind: format.Self, Except: true}),
		"c": settest.New(t, format.Entry{Name: "other.example", Kind: format.Whole}),
		"d": settest.New(t),
	}
	f, _ := mustLoad(t, rules)
	of := map[string]uint64{"a": 1, "b": 2, "c": 4, "d": 1 << 63, "that it has not": 16}
	for _, tt := range []struct {
		bits, want uint32
		count      map[string]Counts
	}{
		{1, mayBeListed, map[string]Counts{"a": {Passed: 1}}},
		{2, notDecidable, map[string]Counts{"b": {Undecided: 1}}},
		{4, 0, map[string]Counts{"c": {Dropped: 1}}},
		{7, mayBeListed | notDecidable, map[string]Counts{"a": {Passed: 1}, "b": {Undecided: 1}, "c": {Dropped: 1}}},
		{8, 0, nil},
		{16, notDecidable, nil},
	} {
		before := f.Counts()
		if got := call(t, mustCall(t, f, of, uint64(tt.bits)), udp4(query("evil.example"))); got != tt.want {
			t.Errorf("of %b it says %d, want %d", tt.bits, got, tt.want)
		}
		for name, now := range f.Counts() {
			if now != before[name].Plus(tt.count[name]) {
				t.Errorf("of %b: %s has %v after %v", tt.bits, name, now, before[name])
			}
		}
	}
	if got := call(t, mustCall(t, f, of, 1<<63), udp4(query("evil.example"))); got != 0 {
		t.Errorf("the empty list says %d", got)
	}
}

// While another program has the scratch nothing is decided.
func TestFunctionBusy(t *testing.T) {
	f, _ := mustLoad(t, map[string]*set.Set{"list": settest.New(t, format.Entry{Name: "evil.example", Kind: format.Whole})})
	p := mustCall(t, f, map[string]uint64{"list": 1}, 1)
	var scratches [][]byte
	if err := f.scratches.Lookup(uint32(0), &scratches); err != nil {
		t.Fatal(err)
	}
	for _, in := range []byte{1, 0} {
		for i := range scratches {
			scratches[i][atBusy] = in
		}
		if err := f.scratches.Put(uint32(0), scratches); err != nil {
			t.Fatal(err)
		}
		want := uint32(mayBeListed)
		if in == 1 {
			want = notDecidable
		}
		for range 3 {
			if got := call(t, p, udp4(query("evil.example"))); got != want {
				t.Errorf("in use %d: it says %d, want %d", in, got, want)
			}
		}
	}
}

// A filter can have as many lists as there may be.
func TestFunctionOfMany(t *testing.T) {
	rules, of := map[string]*set.Set{}, map[string]uint64{}
	one := settest.New(t, format.Entry{Name: "evil.example", Kind: format.Whole}, format.Entry{Name: "a.evil.example", Kind: format.Self, Except: true})
	for i := range 63 {
		name := string(rune('A' + i))
		rules[name], of[name] = one, 1<<i
	}
	f, _ := mustLoad(t, rules)
	if got := call(t, mustCall(t, f, of, 1<<63-1), udp4(query("evil.example"))); got != mayBeListed {
		t.Errorf("it says %d", got)
	}
}

// Without lists that it knows it says that it cannot decide.
func TestFunctionOfNone(t *testing.T) {
	f, _ := mustLoad(t, nil)
	if got := call(t, mustCall(t, f, map[string]uint64{"other": 1}, 1), udp4(query("evil.example"))); got != notDecidable {
		t.Errorf("it says %d", got)
	}
}

func TestProbeFunction(t *testing.T) {
	testkit.Root(t)
	if err := ProbeFunction(); err != nil {
		t.Error(err)
	}
}
