package set

import "github.com/FastFilter/xorfilter"

// A Filter says in constant time which names can be in a set: a binary fuse filter (Graf and Lemire, 2022) with the
// keys of all entries. It has no false negatives, and by its fingerprints of 32 bits one false positive in 2^32 keys.
// The kernel's filter on the NFLOG socket asks the same (lists/nfilter).
type Filter struct {
	// Seed is where the hash of a name begins.
	Seed uint64
	// Self, Below and Whole say which kinds of entries there are. Others need not be looked for.
	Self, Below, Whole bool
	// BinaryFuse has the parameters and fingerprints, those of an empty set without any. Nobody may change it.
	xorfilter.BinaryFuse[uint32]
}

// Empty reports whether no name is in the set.
func (f *Filter) Empty() bool { return !f.Self && !f.Below && !f.Whole }

// May reports whether an entry may mean a name, in wire form.
func (f *Filter) May(wire []byte) bool {
	var l labels
	if f.Empty() || !l.read(wire) {
		return false
	}
	h, end := f.Seed, len(wire)
	for i := l.n - 1; i >= 0; i-- {
		at := int(l.at[i])
		for j := end - 1; j >= at; j-- {
			h = (h ^ uint64(wire[j])) * prime
		}
		end = at
		if f.has(h, i == 0) {
			return true
		}
	}
	return false
}

// has reports whether there may be an entry for the name with the hash h: the name of a question, or one above it.
func (f *Filter) has(h uint64, asked bool) bool {
	switch {
	case f.Whole && f.Contains(WholeKey(h)):
		return true
	case asked:
		return f.Self && f.Contains(SelfKey(h))
	default:
		return f.Below && f.Contains(BelowKey(h))
	}
}
