package format

import (
	"net/netip"
	"strings"

	"culprit/internal/dnsname"
)

// normalise returns the name as entries have it, or why it is none. Names of hosts have letters, digits, hyphens, and in
// practice underscores. DNS allows any byte, but what else lists hold is broken.
func normalise(name string) (string, Reason) {
	if name != "" && strings.Trim(name, "*.") == "" {
		return "", Everything
	}
	ascii, err := dnsname.ASCII(name)
	if err != nil {
		if isAddress(name) {
			return "", Address
		}
		return "", Name
	}
	for i := range len(ascii) {
		switch c := ascii[i]; {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-', c == '_', c == '.':
		case c == '*':
			return "", Wildcard
		case c == ':' && isAddress(name):
			return "", Address
		case c == '/' || c == ':':
			return "", Path
		default:
			return "", Name
		}
	}
	// No top-level domain is a number (RFC 3696, section 2): that is an IPv4 address, or a part of one.
	if last := ascii[len(ascii)-1]; last >= '0' && last <= '9' && strings.Trim(ascii[strings.LastIndexByte(ascii, '.')+1:], "0123456789") == "" {
		return "", Address
	}
	return ascii, ""
}

// single reports whether the name is one label: a top-level domain, or a word that is no domain at all.
func single(name string) bool { return !strings.Contains(name, ".") }

func isAddress(s string) bool {
	_, err := netip.ParseAddr(strings.Trim(s, "[]"))
	return err == nil
}

// wildcard takes the star, the dot or both from the front of the name.
func wildcard(name string) (rest string, found bool) {
	for _, prefix := range []string{"*.", ".", "+."} {
		if rest, found = strings.CutPrefix(name, prefix); found && rest != "" {
			return rest, true
		}
	}
	return name, false
}

// trim takes spaces and tabs from both ends.
func trim(s string) string { return strings.Trim(s, " \t") }

// field cuts the first word from a text without space in front.
func field(s string) (word, rest string) {
	if i := strings.IndexAny(s, " \t"); i >= 0 {
		return s[:i], strings.TrimLeft(s[i:], " \t")
	}
	return s, ""
}

// comment cuts a comment from the end of a line. It begins with one of the marks, at the start of the line or behind
// a space.
func comment(line, marks string) (rest, comment string) {
	for i := 0; i < len(line); i++ {
		n := strings.IndexAny(line[i:], marks)
		if n < 0 {
			break
		}
		if i += n; i == 0 || line[i-1] == ' ' || line[i-1] == '\t' {
			return trim(line[:i]), trim(strings.TrimLeft(line[i:], marks))
		}
	}
	return line, ""
}
