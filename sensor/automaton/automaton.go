// Package automaton makes the table by which a program in the kernel searches a packet for all patterns
// at once, byte by byte (A. Aho and M. Corasick, Efficient string matching, 1975).
//
// Patterns that ignore case and those that do not have an automaton each, in the same table: the bytes
// of the packet are the same, the classes that they fall into are not.
package automaton

import (
	"encoding/binary"
	"fmt"

	"culprit/internal/pattern"
)

// An Entry is a pattern, with the bit that is set in what is found when a packet has it.
type Entry struct {
	Pattern pattern.Pattern
	Found   uint64
}

// A Search is how one automaton goes through a packet. It begins in the row at Start. For each byte it looks
// up its class at Classes+byte, and at row+RowHead+4*class the row that comes next, which begins with what is
// found there.
type Search struct {
	Start   uint32
	Classes uint32 // where the class of each of the 256 bytes is, in one byte
}

// RowHead is how many bytes of a row come before the numbers of the next rows: what is found at it.
const RowHead = 8

// MaxSize is the largest table, in bytes.
const MaxSize = 64 << 20

// A Table holds the automata, in the byte order of the machine.
type Table struct {
	Bytes    []byte
	Searches []Search // one, two, or none without patterns
}

// New makes the table for patterns. It fails if that is larger than [MaxSize].
func New(entries []Entry) (*Table, error) {
	t := new(Table)
	for _, fold := range []bool{true, false} {
		var some []Entry
		for _, e := range entries {
			if e.Pattern.IgnoreCase() == fold {
				some = append(some, e)
			}
		}
		if len(some) == 0 {
			continue
		}
		if err := t.add(some, fold); err != nil {
			return nil, err
		}
	}
	// Any row may then be taken for the longest that there can be.
	t.Bytes = append(t.Bytes, make([]byte, longestRow)...)
	return t, nil
}

const longestRow = RowHead + 4*256

// Last is where no row begins behind.
func (t *Table) Last() int { return len(t.Bytes) - longestRow }

// add adds the automaton of patterns that are alike.
func (t *Table) add(entries []Entry, fold bool) error {
	classes, count := classify(entries, fold)
	rowSize := (RowHead + 4*count + 7) &^ 7
	s := Search{Classes: uint32(len(t.Bytes))}
	s.Start = s.Classes + uint32(len(classes))
	nodes := grow(entries, &classes, count, (MaxSize-int(s.Start))/rowSize)
	if nodes == nil {
		return fmt.Errorf("the patterns of the rules need a table of more than %d MiB: give fewer, or shorter ones", MaxSize>>20)
	}
	t.Bytes = append(t.Bytes, classes[:]...)
	t.Searches = append(t.Searches, s)
	for _, n := range nodes {
		row := make([]byte, rowSize)
		binary.NativeEndian.PutUint64(row, n.found)
		for class, next := range n.next {
			binary.NativeEndian.PutUint32(row[RowHead+4*class:], s.Start+uint32(int(next)*rowSize))
		}
		t.Bytes = append(t.Bytes, row...)
	}
	return nil
}

// classify gives each byte its class. Bytes that no pattern has are all of class 0.
func classify(entries []Entry, fold bool) (classes [256]byte, count int) {
	count = 1
	for _, e := range entries {
		for _, b := range e.Pattern.Bytes() {
			if fold {
				b = lower(b)
			}
			// All 256 bytes with a class of their own leave none without one.
			if classes[b] == 0 && count < len(classes) {
				classes[b] = byte(count)
				count++
			}
		}
	}
	if fold {
		for b := byte('A'); b <= 'Z'; b++ {
			classes[b] = classes[lower(b)]
		}
	}
	return classes, count
}

func lower(b byte) byte {
	if b >= 'A' && b <= 'Z' {
		b += 'a' - 'A'
	}
	return b
}

// A node is a beginning of patterns: what has been read that may become one of them.
type node struct {
	next  []int32 // by class
	found uint64  // of the patterns that end here
	fail  int32   // the longest end of it that is a beginning, too
}

// grow makes the nodes, or returns nil if there are more than most. The first is the empty one.
func grow(entries []Entry, classes *[256]byte, count, most int) []node {
	nodes := []node{{next: make([]int32, count)}}
	for _, e := range entries {
		at := int32(0)
		for _, b := range e.Pattern.Bytes() {
			class := classes[b]
			if nodes[at].next[class] == 0 {
				if len(nodes) >= most {
					return nil
				}
				nodes = append(nodes, node{next: make([]int32, count)})
				nodes[at].next[class] = int32(len(nodes) - 1)
			}
			at = nodes[at].next[class]
		}
		nodes[at].found |= e.Found
	}
	// By breadth: where a node has no next, it goes where its fail would.
	var queue []int32
	for _, next := range nodes[0].next {
		if next != 0 {
			queue = append(queue, next)
		}
	}
	for len(queue) > 0 {
		at := queue[0]
		queue = queue[1:]
		fail := nodes[at].fail
		nodes[at].found |= nodes[fail].found
		for class, next := range nodes[at].next {
			if next == 0 {
				nodes[at].next[class] = nodes[fail].next[class]
				continue
			}
			nodes[next].fail = nodes[fail].next[class]
			queue = append(queue, next)
		}
	}
	return nodes
}
