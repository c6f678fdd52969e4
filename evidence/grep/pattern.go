// Package grep searches traces for lines that match regular expressions.
package grep

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"regexp"
	"regexp/syntax"
	"strings"

	"culprit/evidence/tracefile"
	"culprit/internal/strace"
)

// A Pattern matches lines. Safe for concurrent use.
type Pattern struct {
	re    *regexp.Regexp
	texts [][]byte // a line that matches contains one of them; empty: any line may match
	fold  bool     // texts are in lower case, and case is ignored
	exact bool     // a line that contains one of texts matches

	comments bool
}

// Options say how to read the texts of a pattern.
type Options struct {
	Fixed      bool // literally, not as regular expressions
	IgnoreCase bool
	Comments   bool // match culprit's own lines, too; these begin with #, strace's never
}

// Compile makes a pattern for lines that match any of the expressions, in Go's syntax
// (https://pkg.go.dev/regexp/syntax).
func Compile(expressions []string, o Options) (*Pattern, error) {
	all := make([]string, len(expressions))
	for i, e := range expressions {
		if o.Fixed {
			e = regexp.QuoteMeta(e)
		} else if _, err := regexp.Compile(e); err != nil {
			return nil, fmt.Errorf("%q is not a regular expression of Go: %w: escape plain text with \\, or use -F", e, err)
		}
		all[i] = "(?:" + e + ")"
	}
	whole := strings.Join(all, "|")
	if o.IgnoreCase {
		whole = "(?i)" + whole
	}
	re, err := regexp.Compile(whole)
	if err != nil {
		return nil, fmt.Errorf("the patterns cannot be joined: %w", err)
	}
	p := &Pattern{re: re, comments: o.Comments}
	if tree, err := syntax.Parse(whole, syntax.Perl); err == nil {
		var texts []string
		texts, p.fold = literals(tree)
		for _, t := range texts {
			p.texts = append(p.texts, []byte(t))
		}
		p.exact = tree.Op == syntax.OpLiteral && len(texts) == 1 &&
			len(texts[0]) == len(string(tree.Rune)) && !strings.Contains(texts[0], "\n")
	}
	return p, nil
}

// Find returns where in a line the pattern matches, from where to where in bytes, at most the first of these.
func (p *Pattern) Find(line []byte, most int) [][]int { return p.re.FindAllIndex(line, most) }

// The buffer grows for long lines, up to longestLine bytes: the longest string that capture.levels
// allows takes some 4 MiB in a trace. A longer line is searched in pieces.
const (
	bufferSize  = 256 << 10
	longestLine = 16 << 20
)

// A Scanner searches one trace after the other with the same buffers. Not safe for concurrent use.
type Scanner struct {
	*Pattern
	opener tracefile.Opener
	buf    []byte
	lower  []byte // the block in lower case, if case is ignored
	next   []int  // the next position of each text in the block; the block's length: none
}

// NewScanner makes a scanner for a pattern.
func NewScanner(p *Pattern) *Scanner {
	return &Scanner{Pattern: p, buf: make([]byte, bufferSize), next: make([]int, len(p.texts))}
}

// Scan calls found with each line that matches, without its newline, and the line's number, from
// 1, until found returns false. The line is valid only during the call. If r fails, all lines before
// the one in which it does were searched.
func (s *Scanner) Scan(r io.Reader, found func(number int64, line []byte) bool) error {
	number := int64(1) // of the first line in the buffer
	filled := 0
	for {
		n, err := r.Read(s.buf[filled:])
		filled += n
		end := bytes.LastIndexByte(s.buf[:filled], '\n') + 1
		switch {
		case err == io.EOF:
			end = filled
		case err != nil:
		case filled < len(s.buf):
			continue // few large blocks are faster than many small ones
		case end == 0 && len(s.buf) < longestLine:
			s.buf = append(s.buf, make([]byte, len(s.buf))...)
			continue
		case end == 0:
			end = filled
		}
		more := s.block(s.buf[:end], &number, found)
		if !more || err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		filled = copy(s.buf, s.buf[end:filled])
	}
}

// block searches a block of whole lines, and adds how many they are to number.
func (s *Scanner) block(block []byte, number *int64, found func(int64, []byte) bool) bool {
	counted := 0
	for line := range s.lines(block) {
		*number += int64(bytes.Count(block[counted:line.start], []byte{'\n'}))
		counted = line.start
		text := block[line.start:line.end]
		if (s.comments || !strace.IsComment(text)) && !found(*number, text) {
			return false
		}
	}
	*number += int64(bytes.Count(block[counted:], []byte{'\n'}))
	return true
}

// span is the position of a line in a block, without its newline.
type span struct{ start, end int }

// lines yields the lines of a block that match.
func (s *Scanner) lines(block []byte) func(func(span) bool) {
	return func(yield func(span) bool) {
		s.begin(block)
		for at := 0; at < len(block); {
			hit := s.candidate(block, at)
			if hit == len(block) && len(s.texts) > 0 {
				return
			}
			line := span{bytes.LastIndexByte(block[:hit], '\n') + 1, len(block)}
			if i := bytes.IndexByte(block[hit:], '\n'); i >= 0 {
				line.end = hit + i
			}
			if (s.exact || s.re.Match(block[line.start:line.end])) && !yield(line) {
				return
			}
			at = line.end + 1
		}
	}
}

// begin prepares a block for candidate.
func (s *Scanner) begin(block []byte) {
	for i := range s.next {
		s.next[i] = -1
	}
	if !s.fold {
		return
	}
	s.lower = append(s.lower[:0], block...)
	toLower(s.lower)
}

// toLower turns the letters A to Z into lower case, eight bytes at a time: byte by byte it would
// take longer than everything else.
func toLower(b []byte) {
	const each = 0x0101010101010101
	for ; len(b) >= 8; b = b[8:] {
		x := binary.LittleEndian.Uint64(b)
		low := x & (0x7f * each)
		// The highest bit of each byte: is it at least A, above Z, ASCII?
		atLeastA := low + (0x80-'A')*each
		aboveZ := low + (0x7f-'Z')*each
		upper := (atLeastA &^ aboveZ) &^ x & (0x80 * each)
		binary.LittleEndian.PutUint64(b, x|upper>>2)
	}
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
}

// candidate returns a position in the first line from at on that may match, or the block's length
// if there is none.
func (s *Scanner) candidate(block []byte, at int) int {
	if len(s.texts) == 0 {
		return at
	}
	if s.fold {
		block = s.lower
	}
	first := len(block)
	for i, text := range s.texts {
		if s.next[i] < at {
			s.next[i] = len(block)
			if n := bytes.Index(block[at:], text); n >= 0 {
				s.next[i] = at + n
			}
		}
		first = min(first, s.next[i])
	}
	return first
}
