// Package text makes foreign text safe to print, and numbers easy to read.
package text

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Escape makes s safe to print on a terminal, in a log or in a comment line: whatever is not
// printable (control characters, line ends, marks that change the direction of writing, broken
// UTF-8) becomes a Go escape. A backslash stays as it is, because DNS names and command lines
// are full of them.
func Escape(s string) string {
	if !needsEscape(s) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case unicode.IsPrint(r):
			b.WriteString(s[:n])
		default:
			quoted := strconv.QuoteRuneToASCII(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		s = s[n:]
	}
	return b.String()
}

// JSONWriter returns a writer for JSON that is safe to print on a terminal. In JSON only
// strings can hold runes that are not printable, and there an escape means the same. Each Write
// must hold whole runes.
func JSONWriter(w io.Writer) io.Writer { return jsonWriter{w} }

type jsonWriter struct{ w io.Writer }

func (j jsonWriter) Write(p []byte) (int, error) {
	unsafe := func(r rune) bool { return r > '~' && !unicode.IsPrint(r) }
	if bytes.IndexFunc(p, unsafe) < 0 {
		return j.w.Write(p)
	}
	var b []byte
	for _, r := range string(p) {
		switch {
		case !unsafe(r):
			b = utf8.AppendRune(b, r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			b = fmt.Appendf(b, `\u%04x\u%04x`, high, low)
		default:
			b = fmt.Appendf(b, `\u%04x`, r)
		}
	}
	if _, err := j.w.Write(b); err != nil {
		return 0, err
	}
	return len(p), nil
}

func needsEscape(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' {
			return true
		}
	}
	return false
}

// Quote writes the arguments of a command as one line that a shell would split into them again.
// What is not printable is escaped as in [Escape], inside $'…'.
func Quote(args []string) string {
	var b strings.Builder
	for i, a := range args {
		if i > 0 {
			b.WriteByte(' ')
		}
		switch {
		case a != "" && strings.IndexFunc(a, special) < 0:
			b.WriteString(a)
		case strings.IndexFunc(a, func(r rune) bool { return !unicode.IsPrint(r) || r == utf8.RuneError }) < 0:
			b.WriteString("'" + strings.ReplaceAll(a, "'", `'\''`) + "'")
		default:
			a = strings.ReplaceAll(a, `\`, `\\`)
			b.WriteString("$'" + strings.ReplaceAll(Escape(a), "'", `\'`) + "'")
		}
	}
	return b.String()
}

func special(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:=@%+,", r))
}

// FileName reduces s to letters, digits, dots, - and _, at most 32 of them, so that it can be
// part of a file name.
func FileName(s string) string {
	clean := strings.Map(func(r rune) rune {
		if r < utf8.RuneSelf && !special(r) && !strings.ContainsRune("/:=@%+,", r) {
			return r
		}
		return '_'
	}, s)
	clean = strings.TrimLeft(clean, ".-")
	return clean[:min(len(clean), 32)]
}

// Size writes a number of bytes with about three digits: "1.2 MiB".
func Size(n int64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f, i := float64(n)/1024, 0
	for f >= 1023.95 && i < len(units)-1 {
		f /= 1024
		i++
	}
	return fmt.Sprintf("%.1f %ciB", f, units[i])
}

// Plural writes n and the thing it counts: "1 trace", "3 traces".
func Plural[N ~int | ~int64 | ~uint64](n N, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	if strings.HasSuffix(thing, "s") {
		return fmt.Sprintf("%d %ses", n, thing)
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// Time writes a time as tables show it: local time, to the millisecond.
func Time(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04:05.000")
}

// Since reads a time that a person wrote, as a time or as how long before now it was.
func Since(s string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(s); err == nil {
		return now.Add(-d), nil
	}
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.Atoi(days); err == nil {
			return now.AddDate(0, 0, -n), nil
		}
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is not a time: write 90s, 2h, 7d, 2026-01-31, \"2026-01-31 15:04\" or RFC 3339", s)
}

// Clip cuts a text to at most most characters, the last of which is then "…".
func Clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	switch r := []rune(s); {
	case len(r) <= most:
		return s
	case most < 1:
		return ""
	default:
		return string(r[:most-1]) + "…"
	}
}
