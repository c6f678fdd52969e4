package sigma

import (
	"fmt"
	"strings"

	"culprit/internal/pattern"
	"culprit/internal/text"
)

// Wildcards of a value that are not escaped, as bytes that no name has.
const (
	star     = "\x00" // *
	question = "\x01" // ?
)

// wildcards marks the wildcards of a value, and removes what escapes them.
func wildcards(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && i+1 < len(s) && strings.IndexByte(`*?\`, s[i+1]) >= 0:
			i++
			b.WriteByte(s[i])
		case c == '*':
			b.WriteString(star)
		case c == '?':
			b.WriteString(question)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// value finds out what a value of a field means, of which where names the field. Case never matters.
func value(where, how, raw string) meaning {
	v := strings.ToLower(wildcards(raw))
	if how == "contains" || how == "endswith" {
		v = star + v
	}
	if how == "contains" || how == "startswith" {
		v += star
	}
	body := strings.TrimLeft(v, star)
	before := body != v // anything may stand before it
	v, body = body, strings.TrimRight(body, star)
	after := body != v
	shown := text.Escape(raw)
	if strings.ContainsAny(body, star+question) {
		return missing("%s: %s has a wildcard inside", where, shown)
	}
	if strings.Trim(body, ".") == "" {
		return missing("%s: %s means nearly every name", where, shown)
	}
	switch {
	case !before && !after:
		return meaning{entries: []string{"|" + strings.TrimSuffix(body, ".") + "^"}}
	case before && !after:
		return ending(where, shown, strings.TrimSuffix(body, "."))
	case !before:
		return beginning(where, shown, body)
	}
	return inside(where, shown, body)
}

// ending is for names that end with a text.
func ending(where, shown, body string) meaning {
	switch name, below := strings.CutPrefix(body, "."); {
	case below:
		return meaning{entries: []string{"||*." + name + "^"}}
	case strings.Contains(body, "."):
		return meaning{
			entries: []string{"||" + name + "^"},
			notes:   []note{{what: where + " is taken as whole labels", example: "x." + shown + " is found, x" + shown + " is not"}},
		}
	}
	return missing("%s: %s is the end of a label", where, shown)
}

// inside is for names that have a text in them.
func inside(where, shown, body string) meaning {
	name, begins := strings.CutPrefix(body, ".")
	inner, ends := strings.CutSuffix(name, ".")
	switch {
	case begins && ends:
		return hex(where, shown, labels(inner))
	case ends && strings.Contains(inner, "."):
		first, rest, _ := strings.Cut(inner, ".")
		return hex(where, shown, literal(first)+labels(rest))
	case ends:
		return missing("%s: %s is the end of a label", where, shown)
	case !strings.Contains(body, "."):
		if _, err := pattern.String(body); err != nil {
			return missing("%s: %s: %v", where, shown, err)
		}
		return meaning{patterns: []Pattern{{"string", body}}}
	case !strings.Contains(name, "."):
		return missing("%s: %s is the begin of a label", where, shown)
	case begins:
		return meaning{
			entries: []string{"||*." + name + "^"},
			notes:   []note{{what: where + " is taken as the end of the name", example: "x" + shown + " is found, x" + shown + ".example is not"}},
		}
	}
	return meaning{
		entries: []string{"||" + name + "^"},
		notes:   []note{{what: where + " is taken as a domain", example: "x." + shown + " is found, x" + shown + " and " + shown + ".example are not"}},
	}
}

// beginning is for names that begin with a text. In a question the name follows the header: one
// question, no answers, no authorities, and none or one additional record (EDNS).
func beginning(where, shown, body string) meaning {
	name, ends := strings.CutSuffix(body, ".")
	if !ends {
		return missing("%s: %s is the begin of a label", where, shown)
	}
	const header = "|00 01 00 00 00 00 00 "
	m := hex(where, shown, header+"00|"+labels(name))
	m.patterns = append(m.patterns, hex(where, shown, header+"01|"+labels(name)).patterns...)
	return m
}

// hex is a pattern of bytes.
func hex(where, shown, bytes string) meaning {
	bytes = strings.ReplaceAll(bytes, "||", " ") // |04||61| is |04 61|
	if _, err := pattern.Hex(bytes); err != nil {
		return missing("%s: %s: %v", where, shown, err)
	}
	return meaning{
		patterns: []Pattern{{"hex", bytes}},
		notes:    []note{{what: where + " is found in lower case only", example: shown}},
	}
}

// labels writes whole labels as they are in a packet (RFC 1035, section 3.1), in the notation of hex.
func labels(name string) string {
	var b strings.Builder
	for label := range strings.SplitSeq(name, ".") {
		fmt.Fprintf(&b, "|%02x|%s", len(label), literal(label))
	}
	return b.String()
}

// literal writes bytes in the notation of hex.
func literal(s string) string {
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-', c == '_':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "|%02x|", c)
		}
	}
	return b.String()
}
