// Package set holds the names of a list rule, a million of them as easily as one: compact, immutable, in a file that is
// mapped into memory, with a filter in front that the kernel can ask too.
//
// A name is in wire form here: labels, each after its length, in lower case and without the final zero (RFC 1035,
// section 3.1). So a dot in a label is no end of it.
package set

import "math/bits"

// prime is the prime of FNV with 64 bits.
const prime = 0x100000001b3

// The keys of a filter are the hashes of names, told apart by what an entry means by its name.
const (
	selfMask  = 0x9e3779b97f4a7c15
	belowMask = 0xc2b2ae3d27d4eb4f
)

// Hash returns the hash of a name in wire form. It is FNV-1a from the last byte to the first, beginning with seed: so
// who comes to the length of a label has the hash of all that follows it, and one pass over a question gives the
// hashes of the name and of everything above it.
func Hash(seed uint64, wire []byte) uint64 {
	h := seed
	for i := len(wire) - 1; i >= 0; i-- {
		h = (h ^ uint64(wire[i])) * prime
	}
	return h
}

// WholeKey is the key of an entry that means a name and everything below it, given the hash of the name.
func WholeKey(h uint64) uint64 { return h }

// SelfKey is the key of an entry that means a name alone.
func SelfKey(h uint64) uint64 { return h ^ selfMask }

// BelowKey is the key of an entry that means everything below a name, but not itself.
func BelowKey(h uint64) uint64 { return h ^ belowMask }

// maxLabels is how many labels a name can have: of the 255 bytes of its wire form each takes two at least, and the end one.
const maxLabels = 127

// labels are the places in a name where its labels begin.
type labels struct {
	at [maxLabels]uint8
	n  int
}

// read finds the labels of a name. It reports false if wire is no name in wire form, or the root.
func (l *labels) read(wire []byte) bool {
	l.n = 0
	if len(wire) == 0 || len(wire) > 254 {
		return false
	}
	at := 0
	for at < len(wire) {
		length := int(wire[at])
		if length == 0 || length > 63 || l.n == maxLabels {
			return false
		}
		l.at[l.n] = uint8(at)
		l.n++
		at += 1 + length
	}
	return at == len(wire)
}

// mix spreads the bits of a key over the whole word (the finalizer of MurmurHash3).
func mix(key uint64) uint64 {
	key ^= key >> 33
	key *= 0xff51afd7ed558ccd
	key ^= key >> 33
	key *= 0xc4ceb9fe1a85ec53
	return key ^ key>>33
}

// bucket chooses one of n for a key.
func bucket(key uint64, n int) int {
	hi, _ := bits.Mul64(mix(key), uint64(n))
	return int(hi)
}
