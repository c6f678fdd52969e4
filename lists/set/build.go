package set

import (
	"bufio"
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"unsafe"

	"github.com/FastFilter/xorfilter"
	"golang.org/x/sys/unix"

	"culprit/lists/format"
)

// A Builder compiles a set: it takes the entries in any order, and writes them in the order in which they are looked
// for. Until then they are in a file without a name.
type Builder struct {
	seed   uint64
	spool  *os.File
	out    *bufio.Writer
	at     uint64 // in the spool
	files  []string
	tables [2]struct {
		keys   []uint64
		at     []uint32
		kinds  [3]bool
		fewest uint8 // labels of an entry
	}
	record []byte // reused
}

// NewBuilder begins a set. Its entries wait in a file without a name in the directory dir.
func NewBuilder(dir string) (*Builder, error) {
	spool, err := Temporary(dir)
	if err != nil {
		return nil, err
	}
	b := &Builder{spool: spool, out: bufio.NewWriterSize(spool, 256<<10)}
	var seed [8]byte
	rand.Read(seed[:]) // it never fails
	b.seed = binary.NativeEndian.Uint64(seed[:])
	return b, nil
}

// Temporary makes a file without a name (O_TMPFILE, man 2 open), which is gone when nobody has it.
func Temporary(dir string) (*os.File, error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err == nil {
		return os.NewFile(uintptr(fd), dir+" (without a name)"), nil
	}
	// Some file systems cannot do that, such as overlayfs before Linux 6.3.
	file, err := os.CreateTemp(dir, ".culprit-list-")
	if err != nil {
		return nil, fmt.Errorf("make a file for a compiled list: %w", err)
	}
	return file, os.Remove(file.Name())
}

// Close frees what the builder has.
func (b *Builder) Close() error { return b.spool.Close() }

// File says which list the next entries are from.
func (b *Builder) File(path string) error {
	if len(b.files) > math.MaxUint16 {
		return fmt.Errorf("a rule can have %d lists", math.MaxUint16+1)
	}
	b.files = append(b.files, path[:min(len(path), math.MaxUint16)])
	return nil
}

// Add adds an entry of the list that was named last. Of equal entries the first counts.
func (b *Builder) Add(e format.Entry) error {
	table := 0
	if e.Except {
		table = 1
	}
	comment := e.Comment[:min(len(e.Comment), math.MaxUint8)]
	r := append(b.record[:0], byte(e.Kind), byte(len(e.Name)+1))
	r = binary.NativeEndian.AppendUint16(r, uint16(len(b.files)-1))
	r = binary.NativeEndian.AppendUint32(r, uint32(min(e.Line, math.MaxUint32)))
	r = append(r, byte(len(comment)))
	r = appendWire(r, e.Name)
	name := r[recordHeader:]
	var l labels
	if !l.read(name) || e.Kind > format.Whole {
		return fmt.Errorf("%q is no domain name", e.Name)
	}
	r = append(r, comment...)
	b.record = r
	if b.at+uint64(len(r)) > math.MaxUint32 {
		return errors.New("a rule can have 4 GiB of names")
	}
	t := &b.tables[table]
	if t.kinds[e.Kind] = true; t.fewest == 0 || l.n < int(t.fewest) {
		t.fewest = uint8(l.n)
	}
	t.keys = append(t.keys, keyOf(e.Kind, Hash(b.seed, name)))
	t.at = append(t.at, uint32(b.at))
	b.at += uint64(len(r))
	_, err := b.out.Write(r)
	return err
}

func keyOf(kind format.Kind, h uint64) uint64 {
	switch kind {
	case format.Self:
		return SelfKey(h)
	case format.Below:
		return BelowKey(h)
	}
	return WholeKey(h)
}

// appendWire appends the wire form of a name without escapes.
func appendWire(b []byte, name string) []byte {
	length := len(b)
	b = append(append(b, 0), name...)
	for i := length + 1; i < len(b); i++ {
		if b[i] == '.' {
			b[length], length = byte(i-length-1), i
		}
	}
	b[length] = byte(len(b) - length - 1)
	return b
}

// Build writes the set to a file, for [Open].
func (b *Builder) Build(file *os.File) error {
	if err := b.out.Flush(); err != nil {
		return fmt.Errorf("write list: %w", err)
	}
	var spool []byte
	if b.at > 0 {
		var err error
		if spool, err = unix.Mmap(int(b.spool.Fd()), 0, int(b.at), unix.PROT_READ, unix.MAP_SHARED); err != nil {
			return fmt.Errorf("map list: %w", err)
		}
		defer func() { _ = unix.Munmap(spool) }()
	}
	w := &writer{Writer: bufio.NewWriterSize(file, 256<<10)}
	w.write(make([]byte, headerSize))
	h := header{Magic: magic, Seed: b.seed}
	for i := range b.tables {
		t := &b.tables[i]
		if err := h.Tables[i].build(w, t.keys, t.at, spool); err != nil {
			return err
		}
		h.Tables[i].Kinds, h.Tables[i].Fewest = t.kinds, t.fewest
	}
	h.Files.At = w.at
	for _, f := range b.files {
		w.write(append(binary.NativeEndian.AppendUint16(nil, uint16(len(f))), f...))
	}
	h.Files.Len = w.at - h.Files.At
	err := w.Flush()
	if err == nil {
		head, _ := binary.Append(nil, binary.NativeEndian, &h) // its size is fixed
		_, err = file.WriteAt(head, 0)
	}
	if err != nil {
		return fmt.Errorf("write compiled list: %w", err)
	}
	return nil
}

// perBucket is how many entries a bucket has, more or less: more make the index smaller and a hit slower.
const perBucket = 4

// build writes the table of the entries with these keys, whose records begin in the spool at these places.
func (h *tableHeader) build(w *writer, keys []uint64, at []uint32, spool []byte) error {
	if len(keys) == 0 {
		return nil
	}
	n := len(keys)/perBucket + 1
	starts := make([]uint32, n+1) // in order; then, bucket by bucket, in the text
	for _, k := range keys {
		starts[bucket(k, n)+1]++
	}
	for i := range n {
		starts[i+1] += starts[i]
	}
	order := make([]uint32, len(keys))
	for i, k := range keys {
		b := bucket(k, n)
		order[starts[b]] = uint32(i)
		starts[b]++ // so it ends where the next one began
	}
	unique := make([]uint64, 0, len(keys))
	h.Text.At = w.at
	var from uint32
	for b := range n {
		in := order[from:starts[b]]
		from = starts[b]
		starts[b] = uint32(w.at - h.Text.At)
		slices.SortFunc(in, func(a, b uint32) int { return cmp.Or(cmp.Compare(keys[a], keys[b]), cmp.Compare(a, b)) })
		for i, this := range in {
			r := recordAt(spool, at[this])
			if twin := func(o uint32) bool { return keys[o] == keys[this] && sameName(recordAt(spool, at[o]), r) }; slices.ContainsFunc(in[:i], twin) {
				continue
			}
			if i == 0 || keys[in[i-1]] != keys[this] {
				unique = append(unique, keys[this])
			}
			h.Entries++
			w.write(r)
		}
	}
	starts[n] = uint32(w.at - h.Text.At)
	h.Text.Len = w.at - h.Text.At
	fuse, err := xorfilter.NewBinaryFuse[uint32](unique)
	if err != nil {
		return fmt.Errorf("make the filter of a list: %w", err)
	}
	h.FuseSeed, h.SegmentLength, h.SegmentLengthMask = fuse.Seed, uint64(fuse.SegmentLength), uint64(fuse.SegmentLengthMask)
	h.SegmentCount, h.SegmentCountLength = uint64(fuse.SegmentCount), uint64(fuse.SegmentCountLength)
	h.Buckets = w.words(starts)
	h.Fingerprints = w.words(fuse.Fingerprints)
	return nil
}

// recordAt returns the record that begins at a place in the spool.
func recordAt(spool []byte, at uint32) []byte {
	r := spool[at:]
	return r[:recordHeader+int(r[1])+int(r[8])]
}

// sameName reports whether two records with the same key are of the same name.
func sameName(a, b []byte) bool {
	return a[0] == b[0] && a[1] == b[1] && string(a[recordHeader:recordHeader+int(a[1])]) == string(b[recordHeader:recordHeader+int(b[1])])
}

// A writer knows where it is. The first error stays, and Flush returns it.
type writer struct {
	*bufio.Writer
	at int64
}

func (w *writer) write(b []byte) {
	n, _ := w.Write(b)
	w.at += int64(n)
}

// words writes numbers where numbers can be.
func (w *writer) words(all []uint32) section {
	w.write(make([]byte, -w.at&3))
	s := section{w.at, 4 * int64(len(all))}
	w.write(unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(all))), s.Len))
	return s
}
