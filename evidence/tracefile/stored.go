package tracefile

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
)

// A compressed trace is a sequence of zstd frames, each of a MiB of text, so that it can be read from any of
// them. If there are several, its index follows them, as a frame that every reader of zstd skips (RFC 8878,
// section 3.1.2). That ends with the length of the index, its CRC-32 and a mark, so that it is found
// from the end of the file.
const (
	skippable  = 0x184d2a5c // the magic number of our frame: any from 0x184d2a50 to 0x184d2a5f is skipped
	headerSize = 8          // magic number, size
	mark       = "culprit1"
	endSize    = 4 + 4 + len(mark)
	maxStored  = 4 << 20 // bytes of an index in JSON: that of 16,384 points has a MiB
)

// appendStored appends the frame with an index.
func appendStored(to []byte, x *Index) ([]byte, error) {
	doc, err := json.Marshal(x)
	if err != nil {
		return nil, err
	}
	to = binary.LittleEndian.AppendUint32(to, skippable)
	to = binary.LittleEndian.AppendUint32(to, uint32(len(doc)+endSize))
	to = append(to, doc...)
	to = binary.LittleEndian.AppendUint32(to, uint32(len(doc)))
	to = binary.LittleEndian.AppendUint32(to, crc32.ChecksumIEEE(doc))
	return append(to, mark...), nil
}

// errNoIndex means that the file of a trace has no index that can be used.
var errNoIndex = errors.New("it has no index")

// readStored reads the index at the end of a compressed trace. The file may come from another machine.
func readStored(f *os.File) (*Index, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	var end [endSize]byte
	size := info.Size()
	if size < int64(headerSize+endSize) {
		return nil, errNoIndex
	}
	if _, err := f.ReadAt(end[:], size-int64(endSize)); err != nil {
		return nil, err
	}
	length := int64(binary.LittleEndian.Uint32(end[:]))
	begin := size - int64(endSize) - length - headerSize
	if string(end[8:]) != mark || length > maxStored || begin < 0 {
		return nil, errNoIndex
	}
	b := make([]byte, headerSize+length)
	if _, err := f.ReadAt(b, begin); err != nil {
		return nil, fmt.Errorf("read the index: %w", err)
	}
	doc := b[headerSize:]
	if binary.LittleEndian.Uint32(b) != skippable || int64(binary.LittleEndian.Uint32(b[4:])) != length+int64(endSize) ||
		binary.LittleEndian.Uint32(end[4:]) != crc32.ChecksumIEEE(doc) {
		return nil, errNoIndex
	}
	return parseStored(doc, begin)
}

// parseStored reads an index that stands at that offset of a file.
func parseStored(doc []byte, at int64) (*Index, error) {
	x := new(Index)
	d := json.NewDecoder(bytes.NewReader(doc))
	if err := d.Decode(x); err != nil {
		return nil, fmt.Errorf("%w: %w", errNoIndex, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) || !x.possible(at) {
		return nil, errNoIndex
	}
	return x, nil
}

// possible reports whether the index may be that of a file whose frames have so many bytes.
func (x *Index) possible(size int64) bool {
	if len(x.Points) == 0 || len(x.Points) > maxPoints || len(x.Threads) > maxThreads || x.Points[0] != (Point{Line: 1}) {
		return false
	}
	last := x.Points[0]
	for _, p := range append(x.Points[1:len(x.Points):len(x.Points)], x.End) {
		if p.File < last.File || p.Text < last.Text || p.Line < last.Line || p.Line-last.Line > p.Text-last.Text {
			return false
		}
		last = p
	}
	for _, t := range x.Threads {
		if t.TID < 0 || t.First < 1 || t.First > x.End.Line || t.Lines < 0 || t.Lines > x.End.Line || len(t.Name) > 4*maxName {
			return false
		}
	}
	return x.End.File <= size && x.Unlisted >= 0
}
