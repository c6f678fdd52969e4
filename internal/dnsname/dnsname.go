// Package dnsname writes a domain name that a person or a list gives as it is asked for in a packet.
package dnsname

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// Bounds of a name as text, without a final dot (RFC 1035, section 2.3.4). On the wire a name has two bytes more:
// the length of the first label, and the root's.
const (
	MaxLabel = 63
	MaxName  = 253
)

// converter converts names of other scripts. Underscores are allowed, as in _dmarc.evil.example.
var converter = idna.New(idna.MapForLookup(), idna.StrictDomainName(false))

// ASCII returns the name in lower case, without a final dot, and with labels of other scripts converted by IDNA
// (RFC 5891). What is ASCII already may hold any byte, as on the wire. It costs no allocation if nothing changes.
func ASCII(name string) (string, error) {
	name = strings.TrimSuffix(name, ".")
	if name == "" {
		return "", errors.New("empty: name a domain such as evil.example")
	}
	if !isASCII(name) {
		if !utf8.ValidString(name) {
			return "", errors.New("not a domain name: neither ASCII nor UTF-8")
		}
		// Checked first: a conversion costs the square of a label's length.
		if utf8.RuneCountInString(name) > MaxName {
			return "", fmt.Errorf("has more than %d characters", MaxName)
		}
		converted, err := converter.ToASCII(name)
		if err != nil {
			return "", fmt.Errorf("not a domain name: %w", err)
		}
		name = strings.TrimSuffix(converted, ".")
	}
	name = strings.ToLower(name)
	for from := 0; from <= len(name); {
		n := strings.IndexByte(name[from:], '.')
		if n < 0 {
			n = len(name) - from
		}
		if n == 0 || n > MaxLabel {
			return "", fmt.Errorf("label %q has %d bytes: a label has 1 to %d", name[from:from+n], n, MaxLabel)
		}
		from += n + 1
	}
	if len(name) > MaxName {
		return "", fmt.Errorf("takes %d bytes on the wire: a DNS name has at most 255", len(name)+2)
	}
	return name, nil
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
