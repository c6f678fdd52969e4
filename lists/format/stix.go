package format

import "strings"

// pattern returns the names that a pattern of STIX 2.1 (section 9) is about: comparisons of domain-name:value that are
// joined by nothing but OR. What else is joined by OR has no influence on them.
func pattern(text string) (names []Entry, reason Reason) {
	path, operator := "", ""
	for text = strings.TrimLeft(text, " \t\r\n"); text != ""; text = strings.TrimLeft(text, " \t\r\n") {
		switch c := text[0]; {
		case strings.IndexByte("[](),", c) >= 0:
			text = text[1:]
		case c == '\'':
			value, rest, closed := literal(text[1:])
			if text = rest; !closed {
				return nil, Expression
			}
			if path == "domain-name:value" {
				name, kind, ok := compared(operator, value)
				if !ok {
					return nil, Expression
				}
				names = append(names, Entry{Name: name, Kind: kind})
			}
		default:
			n := strings.IndexAny(text, " \t\r\n[](),'")
			if strings.IndexByte("=!<>", c) >= 0 {
				n = len(text) - len(strings.TrimLeft(text, "=!<>"))
			} else if end := strings.IndexAny(text, "=!<>"); end >= 0 && (n < 0 || end < n) {
				n = end
			}
			if n < 0 {
				n = len(text)
			}
			word := text[:n]
			text = text[n:]
			switch {
			case strings.Contains(word, ":"):
				path, operator = word, ""
			case word == "AND", word == "FOLLOWEDBY", word == "NOT", word == "WITHIN", word == "REPEATS", word == "START":
				if strings.Contains(path+text, "domain-name:") || names != nil {
					return nil, Expression
				}
				return nil, Type
			case word != "OR":
				operator = word
			}
		}
	}
	if names == nil {
		return nil, Type
	}
	return names, ""
}

// literal reads a string up to its closing quotation mark.
func literal(text string) (value, rest string, closed bool) {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '\'':
			return b.String(), text[i+1:], true
		case text[i] == '\\' && i+1 < len(text):
			i++
		}
		b.WriteByte(text[i])
	}
	return "", "", false
}

// compared returns which names a comparison is true for.
func compared(operator, value string) (name string, kind Kind, ok bool) {
	switch operator {
	case "=", "IN":
		return value, Self, true
	case "LIKE":
		// "_" stands for one character, and cannot be told from one that is meant.
		bare, below := strings.CutPrefix(value, "%.")
		return bare, Below, below && !strings.ContainsAny(bare, "%_")
	}
	return "", 0, false
}
