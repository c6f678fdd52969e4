// Package pattern turns what a person wants to find in a packet (a string, some bytes, a
// domain) into the bytes that xt_string searches for. It also decides in user space what the
// kernel's search cannot: whether a DNS name lies in a domain.
package pattern

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"strings"

	"culprit/internal/dnsname"
)

// MaxLen is the longest pattern that xt_string takes, in bytes (XT_STRING_MAX_PATTERN_SIZE in
// linux/netfilter/xt_string.h).
const MaxLen = 128

// A Pattern is what one rule looks for. Make one with [String], [Hex] or [Domain]: the zero
// Pattern matches nothing and is not valid.
type Pattern struct {
	bytes  []byte
	icase  bool
	domain string
}

// String looks for the bytes of s regardless of ASCII case.
func String(s string) (Pattern, error) {
	if err := checkLen(len(s)); err != nil {
		return Pattern{}, err
	}
	return Pattern{bytes: []byte(s), icase: true}, nil
}

// Hex looks for exactly the bytes in the notation of iptables' --hex-string: text, with
// hexadecimal bytes between bars, as in "|04|evil|00|". Spaces between the digits are allowed;
// "\|" is a literal bar.
func Hex(s string) (Pattern, error) {
	b, err := parseHexString(s)
	if err != nil {
		return Pattern{}, err
	}
	if err := checkLen(len(b)); err != nil {
		return Pattern{}, err
	}
	return Pattern{bytes: b}, nil
}

// Domain looks for DNS questions about name and every name below it. In a packet a name is a
// series of length-prefixed labels (RFC 1035, section 3.1). The kernel searches for those,
// regardless of case, and [Pattern.Contains] makes the exact decision. Names in other scripts
// are converted by IDNA.
func Domain(name string) (Pattern, error) {
	ascii, err := dnsname.ASCII(name)
	if err != nil {
		return Pattern{}, err
	}
	var wire []byte
	for label := range strings.SplitSeq(ascii, ".") {
		wire = append(wire, byte(len(label)))
		wire = append(wire, label...)
	}
	wire = append(wire, 0)
	if len(wire) > MaxLen {
		// The kernel's match is only a pre-filter: the end of the name is enough.
		wire = wire[len(wire)-MaxLen:]
	}
	return Pattern{bytes: wire, icase: true, domain: ascii}, nil
}

// Bytes returns what the kernel searches packets for: 1 to [MaxLen] bytes. The caller must not
// change them.
func (p Pattern) Bytes() []byte { return p.bytes }

// IgnoreCase reports whether the search ignores ASCII case (xt_string --icase).
func (p Pattern) IgnoreCase() bool { return p.icase }

// IsDomain reports whether [Domain] made the pattern, so that only a packet with a DNS question
// in that domain is a hit.
func (p Pattern) IsDomain() bool { return p.domain != "" }

// Contains reports whether name is the pattern's domain or lies below it. Case and a trailing
// dot do not matter. It is false for patterns that are not domains.
func (p Pattern) Contains(name string) bool {
	if p.domain == "" {
		return false
	}
	name = strings.TrimSuffix(name, ".")
	rest := len(name) - len(p.domain)
	if rest < 0 || !strings.EqualFold(name[rest:], p.domain) {
		return false
	}
	return rest == 0 || name[rest-1] == '.'
}

// Matches reports whether the kernel's search would find the pattern in b.
func (p Pattern) Matches(b []byte) bool {
	for range p.Find(b) {
		return true
	}
	return false
}

// Find returns where the kernel's search finds the pattern in b, in bytes from the start, each
// time.
func (p Pattern) Find(b []byte) iter.Seq[int] {
	return func(yield func(int) bool) {
		find := p.bytes
		if p.icase {
			b, find = bytes.ToLower(b), bytes.ToLower(find)
		}
		for from := 0; ; {
			i := bytes.Index(b[from:], find)
			if i < 0 || !yield(from+i) {
				return
			}
			from += i + 1
		}
	}
}

// Args returns the pattern as arguments of `iptables -m string`, without --algo.
func (p Pattern) Args() []string {
	var args []string
	if p.plain() {
		args = []string{"--string", string(p.bytes)}
	} else {
		args = []string{"--hex-string", "|" + hex.EncodeToString(p.bytes) + "|"}
	}
	if p.icase {
		args = append(args, "--icase")
	}
	return args
}

// plain reports whether the pattern needs no quoting in a shell and in iptables-save.
func (p Pattern) plain() bool {
	for _, c := range p.bytes {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == '.':
		case c == '-' && p.bytes[0] != '-':
		default:
			return false
		}
	}
	return true
}

func checkLen(n int) error {
	if n == 0 {
		return errors.New("empty: it would match every packet")
	}
	if n > MaxLen {
		return fmt.Errorf("%d bytes: xt_string takes 1 to %d", n, MaxLen)
	}
	return nil
}

func parseHexString(s string) ([]byte, error) {
	var out []byte
	for s != "" {
		text, rest, opened := cutBar(s)
		out = append(out, text...)
		if !opened {
			break
		}
		digits, after, closed := strings.Cut(rest, "|")
		if !closed {
			return nil, errors.New(`the bar "|" that opens hexadecimal bytes is not closed`)
		}
		b, err := hex.DecodeString(strings.ReplaceAll(digits, " ", ""))
		if err != nil {
			return nil, fmt.Errorf("%q between bars is not hexadecimal bytes (two digits each)", digits)
		}
		out = append(out, b...)
		s = after
	}
	return out, nil
}

// cutBar splits s at the first bar that is not escaped as "\|".
func cutBar(s string) (text []byte, rest string, found bool) {
	var b bytes.Buffer
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s) && (s[i+1] == '|' || s[i+1] == '\\'):
			i++
			b.WriteByte(s[i])
		case s[i] == '|':
			return b.Bytes(), s[i+1:], true
		default:
			b.WriteByte(s[i])
		}
	}
	return b.Bytes(), "", false
}
