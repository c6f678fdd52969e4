package format

import "strings"

// domain reads a line of the format Domains: a name with all below it, as a rule with `domain:`. Tools for which a
// bare name is the name alone publish lists that name everything below as "*.x", ".x" or "+.x", which mean the same
// here. "=x" is the name alone, as for dnscrypt-proxy.
func (r *reader) domain(line string) {
	name, note := comment(line, "#;!")
	if name == "" || strings.HasPrefix(name, "//") {
		return
	}
	name, more := field(name)
	kind, exact := Whole, false
	if rest, found := strings.CutPrefix(name, "="); found {
		name, kind, exact = rest, Self, true
	}
	bare, wild := wildcard(name)
	switch {
	case more != "" && !strings.HasPrefix(more, "//"):
		r.reject(Syntax, line)
	case strings.Contains(name, "://"):
		r.reject(Path, line)
	case wild || exact:
		r.add(bare, kind, false, note)
	default:
		r.addFull(r.line, name, kind, note)
	}
}
