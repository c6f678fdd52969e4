package bundle

import (
	"bytes"
	"fmt"
	"io"
	"testing"
)

// Traces are packed and checked as fast as zstd goes, in the same memory whatever
// their size.
func BenchmarkBundle(b *testing.B) {
	line := []byte(`812 1700000000.123456 sendto(3<UDP:[127.0.0.1:42392->127.0.0.1:53]>, "\0\1", 33, 0, NULL, 0) = 33 <0.000020>` + "\n")
	for _, size := range []int64{8 << 20, 64 << 20} {
		file := File{"traces/t", func() (io.ReadCloser, int64, error) {
			return io.NopCloser(&repeater{line: line}), size, nil
		}}
		var packed bytes.Buffer
		b.Run(fmt.Sprintf("write-%dMiB", size>>20), func(b *testing.B) {
			b.SetBytes(size)
			b.ReportAllocs()
			for b.Loop() {
				packed.Reset()
				if _, err := Write(&packed, about, []File{file}); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("verify-%dMiB", size>>20), func(b *testing.B) {
			b.SetBytes(size)
			b.ReportAllocs()
			for b.Loop() {
				if r := check(b, packed.Bytes()); !r.OK() {
					b.Fatal(r.Problems)
				}
			}
		})
	}
}

// repeater reads the same line for ever, with a number that counts.
type repeater struct {
	line []byte
	left []byte
	n    int
}

func (r *repeater) Read(p []byte) (int, error) {
	if len(r.left) == 0 {
		r.n++
		r.left = fmt.Appendf(nil, "%d %s", r.n, r.line)
	}
	n := copy(p, r.left)
	r.left = r.left[n:]
	return n, nil
}
