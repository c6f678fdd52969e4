package format

import (
	"bytes"
	"fmt"
	"io"
)

// records is the text of a list for parsers that find the ends of rows or objects themselves. It bounds what one of them
// takes: behind a quotation mark without its second they would keep all that follows.
type records struct {
	*source
	most int // bytes of one record
	left int

	read   int64   // bytes
	ends   []int64 // where the lines end that were not passed yet
	passed int     // lines
	open   bool    // the last line has no end
}

// begin allows the next record, which begins at or behind the offset.
func (r *records) begin(offset int64) {
	r.left = r.most
	r.lineAt(offset)
}

func (r *records) Read(p []byte) (int, error) {
	if r.left <= 0 {
		return 0, fmt.Errorf("what begins at or behind line %d has more than %d bytes: is a quotation mark missing?", r.passed+1, r.most)
	}
	n, err := r.buf.Read(p[:min(len(p), r.left)])
	r.left -= n
	for i := 0; i < n; i++ {
		end := bytes.IndexByte(p[i:n], '\n')
		if end < 0 {
			break
		}
		i += end
		r.ends = append(r.ends, r.read+int64(i))
	}
	if r.read += int64(n); n > 0 {
		r.open = p[n-1] != '\n'
	}
	if err != nil && err != io.EOF {
		err = fmt.Errorf("read behind %d bytes: %w", r.read, err)
	}
	return n, err
}

// lineAt returns the line of a byte, from 1. Offsets must not become smaller from call to call.
func (r *records) lineAt(offset int64) int {
	passed := 0
	for passed < len(r.ends) && r.ends[passed] < offset {
		passed++
	}
	r.passed += passed
	r.ends = append(r.ends[:0], r.ends[passed:]...)
	return r.passed + 1
}

// count says how many lines were read.
func (r *records) count() {
	r.line = r.passed + len(r.ends)
	if r.open {
		r.line++
	}
}
