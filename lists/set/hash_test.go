package set

import (
	"strings"
	"testing"

	"github.com/FastFilter/xorfilter"
)

// The hashes were computed by another program.
var vectors = []struct {
	seed uint64
	name string
	hash uint64
}{
	{0, "", 0},
	{0xcbf29ce484222325, "a", 0x89be307b544f397},
	{0, "evil.example", 0xbee09bd7583fc413},
	{1, "evil.example", 0xf83da5fef7d7a414},
	{0x0123456789abcdef, "www.evil.example", 0xa81b60cc96136f6},
	{^uint64(0), "xn--bcher-kva.example", 0x2849e262f716c03a},
	{42, strings.TrimSuffix(strings.Repeat("a.", 127), "."), 0xdae72271c6982f4},
}

func TestHash(t *testing.T) {
	t.Parallel()
	for _, v := range vectors {
		if got := Hash(v.seed, wire(v.name)); got != v.hash {
			t.Errorf("{%#x, %q, %#x},", v.seed, v.name, got)
		}
	}
}

// wire returns the wire form of a name without escapes.
func wire(name string) []byte {
	var b []byte
	if name == "" {
		return b
	}
	for label := range strings.SplitSeq(name, ".") {
		b = append(append(b, byte(len(label))), label...)
	}
	return b
}

func TestFilter(t *testing.T) {
	t.Parallel()
	const seed = 7
	keys := []uint64{
		WholeKey(Hash(seed, wire("whole.example"))), SelfKey(Hash(seed, wire("self.example"))), BelowKey(Hash(seed, wire("below.example"))),
	}
	fuse, err := xorfilter.NewBinaryFuse[uint32](keys)
	if err != nil {
		t.Fatal(err)
	}
	f := &Filter{Seed: seed, Self: true, Below: true, Whole: true, BinaryFuse: *fuse}
	for name, want := range map[string]bool{
		"whole.example": true, "a.whole.example": true, "a.b.whole.example": true, "awhole.example": false,
		"self.example": true, "a.self.example": false,
		"below.example": false, "a.below.example": true, "a.b.below.example": true,
		"example": false, "": false, strings.TrimSuffix(strings.Repeat("a.", 121), ".") + ".whole.example": false,
		strings.TrimSuffix(strings.Repeat("a.", 120), ".") + ".whole.example": true,
	} {
		if got := f.May(wire(name)); got != want {
			t.Errorf("%q may be in the set: %v", name, got)
		}
	}
	if f.Whole = false; f.May(wire("whole.example")) {
		t.Error("a kind that is not there was looked for")
	}
	for _, broken := range []string{"\x00", "\x05evil", "\x40" + strings.Repeat("a", 64), "\x01a\x00", "\xc0\x0c"} {
		if f.May([]byte(broken)) {
			t.Errorf("%q is no name", broken)
		}
	}
}
