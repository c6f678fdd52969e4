package set

import (
	"encoding/binary"
	"runtime"
	"strings"

	"culprit/lists/format"
)

// A Set is what one rule looks for. It never changes, and any number of goroutines may ask it.
//
// Only what is asked for is in memory: the filter, four bytes and a half for each name, and the pages of the entries
// that were found.
type Set struct {
	files            []string
	size             int64
	listed, excepted table
}

// A table has the entries, or the exceptions, of a set.
type table struct {
	entries int
	fewest  int // labels of an entry: no shorter name needs to be looked up
	filter  Filter
	buckets []uint32 // where each begins in the text, and where the last one ends
	text    []byte
}

// A Match is the entry that means a name.
type Match struct {
	set    *Set
	record []byte
}

// Entries returns the number of different entries, and of exceptions.
func (s *Set) Entries() (listed, excepted int) { return s.listed.entries, s.excepted.entries }

// Size returns how many bytes the set takes, most of them on disk or in the page cache only.
func (s *Set) Size() int64 { return s.size }

// Filter returns the filter in front of the entries.
func (s *Set) Filter() *Filter { return &s.listed.filter }

// Exceptions returns the filter in front of the exceptions. What it may have must be looked at by [Set.Find].
func (s *Set) Exceptions() *Filter { return &s.excepted.filter }

// Find looks for what means a name, in wire form. If several entries do, it finds that of the longest name. An exception
// that means the name wins, however short its name is. Find does not allocate.
func (s *Set) Find(wire []byte) (Match, bool) {
	record := s.listed.find(wire)
	if record != nil && s.excepted.find(wire) != nil {
		record = nil
	}
	runtime.KeepAlive(s)
	return Match{s, record}, record != nil
}

// Excepted looks for the exception that means a name.
func (s *Set) Excepted(wire []byte) (Match, bool) {
	record := s.excepted.find(wire)
	runtime.KeepAlive(s)
	return Match{s, record}, record != nil
}

// find returns the record of the entry with the longest name that means a name, or nil.
func (t *table) find(wire []byte) (found []byte) {
	var l labels
	if t.filter.Empty() || !l.read(wire) {
		return nil
	}
	h, end := t.filter.Seed, len(wire)
	for i := l.n - 1; i >= 0; i-- {
		at := int(l.at[i])
		for j := end - 1; j >= at; j-- {
			h = (h ^ uint64(wire[j])) * prime
		}
		end = at
		if l.n-i < t.fewest || !t.filter.has(h, i == 0) {
			continue
		}
		kind, key := format.Below, BelowKey(h)
		if i == 0 {
			kind, key = format.Self, SelfKey(h)
		}
		if r := t.record(WholeKey(h), format.Whole, wire[at:]); r != nil {
			found = r
		}
		if r := t.record(key, kind, wire[at:]); r != nil {
			found = r
		}
	}
	return found
}

// record returns the record of an entry, or nil.
func (t *table) record(key uint64, kind format.Kind, name []byte) []byte {
	if kind == format.Whole && !t.filter.Whole || kind == format.Self && !t.filter.Self || kind == format.Below && !t.filter.Below {
		return nil
	}
	b := bucket(key, len(t.buckets)-1)
	from, to := t.buckets[b], t.buckets[b+1]
	if from > to || to > uint32(len(t.text)) {
		return nil // not what we wrote
	}
	for rest := t.text[from:to]; len(rest) > recordHeader; {
		nameEnd := recordHeader + int(rest[1])
		end := nameEnd + int(rest[8])
		if end > len(rest) {
			return nil
		}
		if rest[0] == byte(kind) && string(rest[recordHeader:nameEnd]) == string(name) {
			return rest[:end:end]
		}
		rest = rest[end:]
	}
	return nil
}

// File is the path of the list.
func (m Match) File() (path string) {
	if n := int(binary.NativeEndian.Uint16(m.record[2:])); n < len(m.set.files) {
		path = m.set.files[n]
	}
	return path
}

// Line is where the entry stands in the list.
func (m Match) Line() (line int) {
	defer runtime.KeepAlive(m.set)
	return int(binary.NativeEndian.Uint32(m.record[4:]))
}

// Kind is which names the entry means.
func (m Match) Kind() format.Kind {
	defer runtime.KeepAlive(m.set)
	return format.Kind(m.record[0])
}

// Name is the name in the list.
func (m Match) Name() string {
	defer runtime.KeepAlive(m.set)
	var s strings.Builder
	for rest := m.record[recordHeader : recordHeader+int(m.record[1])]; len(rest) > 0; {
		n := min(1+int(rest[0]), len(rest))
		if s.Len() > 0 {
			s.WriteByte('.')
		}
		s.Write(rest[1:n])
		rest = rest[n:]
	}
	return s.String()
}

// Comment is what stands beside the entry. It is foreign text.
func (m Match) Comment() string {
	defer runtime.KeepAlive(m.set)
	return string(m.record[recordHeader+int(m.record[1]):])
}
