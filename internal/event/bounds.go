package event

import "unicode/utf8"

// MaxDocument is the most bytes that a hit, trace or program takes as JSON, whatever the names
// of its processes. A program that reads events line by line must accept lines of this length.
const MaxDocument = 256 << 10

// Cut shortens a text to at most most bytes of JSON, where control characters, "<" and invalid
// UTF-8 take six bytes each. A shortened text ends in "…".
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

// encoded returns how many bytes package encoding/json writes for a rune.
func encoded(r rune, size int) int {
	switch {
	case r == '"', r == '\\', r == '\n', r == '\r', r == '\t', r == '\b', r == '\f':
		return 2
	case r < ' ', r == '<', r == '>', r == '&', r == '\u2028', r == '\u2029', r == utf8.RuneError && size == 1:
		return 6
	}
	return size
}
