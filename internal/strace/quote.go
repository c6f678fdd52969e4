package strace

import (
	"bytes"
	"strconv"
	"strings"
)

// CutQuoted returns the string that text begins with, without its quotes and still escaped, and
// what follows it. !ok means that text does not begin with a quote, or that the string has no
// end; then s is all the rest.
func CutQuoted(text []byte) (s, rest []byte, ok bool) {
	if len(text) == 0 || text[0] != '"' {
		return nil, text, false
	}
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return text[1:i], text[i+1:], true
		}
	}
	return text[1:], nil, false
}

// Unquote appends the bytes of an escaped string of strace. The escapes are those of C: \n and
// the like, octal with one to three digits, hexadecimal (-x) with two.
func Unquote(to, s []byte) []byte {
	for {
		i := bytes.IndexByte(s, '\\')
		if i < 0 || i+1 == len(s) {
			return append(to, s...)
		}
		to = append(to, s[:i]...)
		c, n := s[i+1], 2
		switch {
		case c >= '0' && c <= '7':
			v := 0
			for n = 1; n < 4 && i+n < len(s) && s[i+n] >= '0' && s[i+n] <= '7'; n++ {
				v = v*8 + int(s[i+n]-'0')
			}
			c = byte(v)
		case c == 'x':
			v, err := strconv.ParseUint(string(s[i+2:min(len(s), i+4)]), 16, 8)
			if err == nil {
				c, n = byte(v), min(4, len(s)-i)
			}
		default:
			if k := strings.IndexByte("abtnvfr", c); k >= 0 {
				c = "\a\b\t\n\v\f\r"[k]
			}
		}
		to = append(to, c)
		s = s[i+n:]
	}
}

// AppendQuoted appends a string as strace writes it, in quotes. cut says that the program's string
// goes on.
func AppendQuoted(to, s []byte, cut bool) []byte {
	to = append(to, '"')
	for i, c := range s {
		switch {
		case c == '"' || c == '\\':
			to = append(to, '\\', c)
		case c >= ' ' && c < 0x7f:
			to = append(to, c)
		case c >= '\t' && c <= '\r':
			to = append(to, '\\', "tnvfr"[c-'\t'])
		default:
			width := 1
			if i+1 < len(s) && isDigit(s[i+1]) {
				width = 3 // or the digit would belong to it
			}
			octal := strconv.FormatUint(uint64(c), 8)
			to = append(to, '\\')
			for range width - len(octal) {
				to = append(to, '0')
			}
			to = append(to, octal...)
		}
	}
	to = append(to, '"')
	if cut {
		to = append(to, ellipsis...)
	}
	return to
}
