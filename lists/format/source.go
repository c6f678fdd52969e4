package format

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// Bounds of the text of a list, in bytes. The second is a hundred times what a list of a million names takes in
// most formats: a small file can be compressed so that it grows without end.
const (
	maxLine = 64 << 10
	maxList = 4 << 30
	// maxWindow is what zstd(1) accepts by default.
	maxWindow = 128 << 20
)

var (
	errLong   = errors.New("the line is too long")
	errBinary = errors.New("not a text: it has zero bytes")
)

// A source is the text of a list, line by line.
type source struct {
	buf   *bufio.Reader
	line  int // the number of the line that next returned
	close func()
}

// open looks for the magic numbers of gzip (RFC 1952) and zstd (RFC 8878), and for a byte order mark.
func open(r io.Reader) (*source, error) {
	buf := bufio.NewReaderSize(r, maxLine)
	start, err := buf.Peek(4)
	if err != nil && err != io.EOF {
		return nil, err
	}
	s := &source{buf: buf, close: func() {}}
	switch {
	case bytes.HasPrefix(start, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(buf)
		if err != nil {
			return nil, fmt.Errorf("unpack by gzip: %w", err)
		}
		s.buf = bufio.NewReaderSize(bound(z), maxLine)
	case bytes.Equal(start, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(buf, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, fmt.Errorf("unpack by zstd: %w", err)
		}
		s.buf, s.close = bufio.NewReaderSize(bound(z), maxLine), z.Close
	}
	if bytes.IndexByte(s.peek(), 0) >= 0 {
		s.close()
		return nil, errBinary
	}
	if mark, _ := s.buf.Peek(3); string(mark) == "\ufeff" {
		_, _ = s.buf.Discard(len(mark))
	}
	return s, nil
}

// bound makes reading fail behind maxList bytes.
func bound(r io.Reader) io.Reader { return &bounded{r, maxList} }

type bounded struct {
	io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, fmt.Errorf("unpacked it has more than %d bytes", int64(maxList))
	}
	return n, err
}

// peek returns the beginning of the text, without reading it.
func (s *source) peek() []byte {
	start, _ := s.buf.Peek(maxLine)
	return start
}

// next returns the next line without its end. Of a line that is too long it returns the beginning, and errLong.
func (s *source) next() (string, error) {
	line, err := s.buf.ReadSlice('\n')
	if err == bufio.ErrBufferFull {
		start := string(line[:maxText])
		for err == bufio.ErrBufferFull {
			_, err = s.buf.ReadSlice('\n')
		}
		if err == nil || err == io.EOF {
			s.line++
			return start, errLong
		}
	}
	if len(line) > 0 && (err == nil || err == io.EOF) {
		s.line++
		line = bytes.TrimSuffix(line, []byte{'\n'})
		return string(bytes.TrimSuffix(line, []byte{'\r'})), nil
	}
	if err != nil && err != io.EOF {
		err = fmt.Errorf("read behind line %d: %w", s.line, err)
	}
	return "", err
}
