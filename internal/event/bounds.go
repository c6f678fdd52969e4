package event

import "unicode/utf8"

// MaxDocument is how long a hit, trace or program is as JSON at most, in bytes, whatever
// the processes in it are called. What reads events line by line has to take so much.
const MaxDocument = 256 << 10

// Cut shortens a text to what takes most bytes as JSON, where control characters, "<" and
// bytes that are no UTF-8 take six each. What is cut ends in "…".
func Cut(s string, most int) string {
	for at := 0; at < len(s); {
		r, size := utf8.DecodeRuneInString(s[at:])
		if most -= encoded(r, size); most < 0 {
			return s[:at] + "…"
		}
		at += size
	}
	return s
}

// encoded is how many bytes package encoding/json writes for a rune.
func encoded(r rune, size int) int {
	switch {
	case r == '"', r == '\\', r == '\n', r == '\r', r == '\t', r == '\b', r == '\f':
		return 2
	case r < ' ', r == '<', r == '>', r == '&', r == '\u2028', r == '\u2029', r == utf8.RuneError && size == 1:
		return 6
	}
	return size
}
