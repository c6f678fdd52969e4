package set

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"github.com/FastFilter/xorfilter"
	"golang.org/x/sys/unix"
)

// A compiled set is a file: a header, and then for each table the fingerprints of its filter, where in the text each
// bucket begins, and the text, which has the records of a bucket one after the other. The names of the lists are at
// the end. Numbers are as this machine has them: nobody keeps the file.
type header struct {
	Magic  uint64
	Seed   uint64
	Tables [2]tableHeader // what is listed, and the exceptions
	Files  section
}

type tableHeader struct {
	Entries int64
	Kinds   [3]bool // by format.Kind
	Fewest  uint8   // labels of an entry
	_       [4]byte

	FuseSeed, SegmentLength, SegmentLengthMask, SegmentCount, SegmentCountLength uint64

	Fingerprints, Buckets, Text section
}

// A section is a part of the file, in bytes.
type section struct{ At, Len int64 }

// magic changes with the layout.
const magic = 0x32_74_65_73_6c_75_63

var headerSize = int64(binary.Size(header{}))

// A record in the text: kind, length of the name, number of the list, line, length of the comment; name; comment.
const recordHeader = 1 + 1 + 2 + 4 + 1

// Open maps a set that [Builder.Build] wrote. The file can be closed then. The mapping ends when nobody has the set, nor
// a match of it, any more: so whoever looks a name up need not know that another set has taken its place.
func Open(file *os.File) (*Set, error) {
	st, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("open compiled list: %w", err)
	}
	if st.Size() < headerSize || st.Size() != int64(int(st.Size())) {
		return nil, errors.New("open compiled list: it is not whole")
	}
	data, err := unix.Mmap(int(file.Fd()), 0, int(st.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map compiled list: %w", err)
	}
	// Neighbours in the file have nothing to do with each other: only pages that are asked for shall be resident.
	_ = unix.Madvise(data, unix.MADV_RANDOM)
	s := &Set{size: st.Size()}
	runtime.AddCleanup(s, func(data []byte) { _ = unix.Munmap(data) }, data)
	var h header
	if _, err := binary.Decode(data, binary.NativeEndian, &h); err != nil || h.Magic != magic {
		return nil, errors.New("open compiled list: another version of culprit made it")
	}
	if err := s.read(&h, data); err != nil {
		return nil, fmt.Errorf("open compiled list: %w", err)
	}
	return s, nil
}

func (s *Set) read(h *header, data []byte) error {
	names, err := h.Files.of(data)
	if err != nil {
		return err
	}
	for len(names) >= 2 {
		n := 2 + int(binary.NativeEndian.Uint16(names))
		if n > len(names) {
			break
		}
		s.files = append(s.files, string(names[2:n]))
		names = names[n:]
	}
	return errors.Join(s.listed.read(h.Seed, &h.Tables[0], data), s.excepted.read(h.Seed, &h.Tables[1], data))
}

func (t *table) read(seed uint64, h *tableHeader, data []byte) error {
	fingerprints, err := words(h.Fingerprints, data)
	if err != nil {
		return err
	}
	if t.buckets, err = words(h.Buckets, data); err != nil {
		return err
	}
	if t.text, err = h.Text.of(data); err != nil {
		return err
	}
	t.entries, t.fewest = int(h.Entries), int(h.Fewest)
	t.filter = Filter{Seed: seed, Self: h.Kinds[0], Below: h.Kinds[1], Whole: h.Kinds[2]}
	if t.filter.Empty() {
		return nil
	}
	t.filter.BinaryFuse = xorfilter.BinaryFuse[uint32]{
		Seed: h.FuseSeed, SegmentLength: uint32(h.SegmentLength), SegmentLengthMask: uint32(h.SegmentLengthMask),
		SegmentCount: uint32(h.SegmentCount), SegmentCountLength: uint32(h.SegmentCountLength), Fingerprints: fingerprints,
	}
	// These are what xorfilter relies on when it looks for a key.
	filter := &t.filter.BinaryFuse
	long := uint64(filter.SegmentCountLength) + 2*uint64(filter.SegmentLength)
	if filter.SegmentLength&filter.SegmentLengthMask != 0 || filter.SegmentLengthMask != filter.SegmentLength-1 ||
		filter.SegmentCountLength%max(1, filter.SegmentLength) != 0 || uint64(len(fingerprints)) < long || len(t.buckets) < 2 {
		return errors.New("its filter is not whole")
	}
	return nil
}

// of returns the bytes of a section.
func (s section) of(data []byte) ([]byte, error) {
	if s.At < 0 || s.Len < 0 || s.At > int64(len(data)) || s.Len > int64(len(data))-s.At {
		return nil, errors.New("it ends too early")
	}
	return data[s.At : s.At+s.Len : s.At+s.Len], nil
}

// words returns a section of numbers.
func words(s section, data []byte) ([]uint32, error) {
	b, err := s.of(data)
	if err != nil || len(b) == 0 {
		return nil, err
	}
	if s.At%4 != 0 {
		return nil, errors.New("numbers are not where they can be")
	}
	return unsafe.Slice((*uint32)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/4), nil
}
